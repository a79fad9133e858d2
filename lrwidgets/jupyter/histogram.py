"""Draw the histogram of a map with a threshold that can be dragged."""

import anywidget
import ipywidgets as w
import numpy as np
import traitlets as t

from lrcore.arrays import Float32
from lrwidgets.jupyter.slices import HERE

BINS = 128
STEPS = 500
"""Number of steps of the slider over the range of the bars."""
COUNTED = 2_000_000
"""Largest number of voxels that are counted."""


class Histogram(anywidget.AnyWidget):
    """Histogram of a map's values with a threshold that can be dragged. range: values at both ends of the bars."""

    _esm = HERE / "histogram.js"
    counts = t.List(t.Int()).tag(sync=True)
    range = t.List(t.Float(), [0.0, 1.0]).tag(sync=True)
    value = t.Float(0.0).tag(sync=True)


def histogram_counts(filtered: Float32) -> tuple[list[int], tuple[float, float]]:
    """Return the numbers of voxels by value, from the 1 % quantile to the maximum, and both ends of the range."""
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
