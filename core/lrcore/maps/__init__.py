"""Compare, filter and sharpen maps: FSC, local resolution, non-uniform filter."""
