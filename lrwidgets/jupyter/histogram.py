"""The histogram of a map, on which a threshold is dragged."""

import anywidget
import ipywidgets as w
import numpy as np
import traitlets as t

from lrcore.arrays import Float32
from lrwidgets.jupyter.slices import HERE

BINS = 128
STEPS = 500
"""Of a slider from one end of the bars to the other."""
COUNTED = 2_000_000
"""Voxels that are counted at most."""


class Histogram(anywidget.AnyWidget):
    """Bars of a map's values with a threshold that is dragged over them. range: values at both ends of the bars."""

    _esm = HERE / "histogram.js"
    counts = t.List(t.Int()).tag(sync=True)
    range = t.List(t.Float(), [0.0, 1.0]).tag(sync=True)
    value = t.Float(0.0).tag(sync=True)


def histogram_counts(filtered: Float32) -> tuple[list[int], tuple[float, float]]:
    """Numbers of voxels by value, from where most of them are to the highest one, and both ends."""
    few = filtered.reshape(-1)[:: max(1, filtered.size // COUNTED)]
    low, high = float(np.quantile(few[::8], 0.01)), float(filtered.max())
    if not high > low:
        high = low + 1.0
    counts, _ = np.histogram(few, BINS, (low, high))
    return [int(count) for count in counts], (low, high)


def set_slider_range(slider: w.FloatSlider, low: float, high: float) -> None:
    """Set both ends of a slider, in an order in which they never cross."""
    if low > slider.max:
        slider.max, slider.min = high, low
    else:
        slider.min, slider.max = low, high
