"""Read image stacks batch by batch, and select, split, expand and check particles."""
