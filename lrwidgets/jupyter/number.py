"""A number that only a hand changes: a box to type in, a slider, and a histogram to drag on.

A slider of ipywidgets rounds what the kernel sets to its steps and returns it like a move of its own, so that settings
changed by themselves; and it cuts a typed value off at its ends without a word. Here a move arrives in `hand`, apart
from `value`, and a typed text is checked in the kernel.
"""

from collections.abc import Callable
from typing import Any

import anywidget
import numpy as np
import traitlets as t

from lrcore.arrays import Float32
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.slices import HERE
from lrwidgets.text.fields import format_value, parse_number

BINS = 128
STEPS = 500
"""Number of steps of a slider over the range of a histogram."""
COUNTED = 2_000_000
"""Largest number of voxels that are counted."""


class NumberControl(anywidget.AnyWidget):
    """Number drawn by number.js.

    Attributes
    ----------
    description, label_width
        Label and its width in CSS.
    value, text
        What the kernel shows, and how it is typed.
    low, high, step
        Ends and step of the slider; no slider if the ends are equal. A typed value may lie outside.
    counts
        Bars of a histogram over the slider's range; empty for none.
    hand
        What a person has typed or moved: {"text", "move"}, with the number of the move.
    seq
        Number of answers: the browser shows `value` again when it changes.
    """

    _esm = HERE / "number.js"
    _css = HERE / "number.css"
    description = t.Unicode("").tag(sync=True)
    label_width = t.Unicode("auto").tag(sync=True)
    value = t.Float(0.0).tag(sync=True)
    text = t.Unicode("").tag(sync=True)
    low = t.Float(0.0).tag(sync=True)
    high = t.Float(0.0).tag(sync=True)
    step = t.Float(0.0).tag(sync=True)
    counts = t.List(t.Int()).tag(sync=True)
    hand = t.Dict().tag(sync=True)
    seq = t.Int(0).tag(sync=True)

    def __init__(self, value: float = 0.0, *, unit: str = "", whole: bool = False, **traits: Any) -> None:
        """unit: may follow a typed number. whole: only whole numbers are read."""
        super().__init__(value=value, text=format_value(value), **traits)
        self._unit, self._whole = unit, whole

    def show(self, value: float, **traits: Any) -> None:
        """Show a value, and other traits with it, in one message; the slider makes room for the value."""
        with self.hold_sync():
            for name, new in traits.items():
                setattr(self, name, new)
            if self.high > self.low:
                self.low, self.high = min(self.low, value), max(self.high, value)
            self.value, self.text = value, f"{value:.6g}"
            self.seq += 1

    def on_hand(self, panel: Panel, use: Callable[[float], None]) -> None:
        """Call `use` with what a person sets; where that is refused, show the old value and the error."""

        def moved(change: Any) -> None:
            try:
                number = parse_number(change["new"]["text"], self.description, self._unit, self._whole)
                use(number)
            except Exception:
                self.show(self.value)
                raise
            self.show(number)

        self.observe(panel.catch_errors(moved), "hand")


def histogram_counts(filtered: Float32) -> tuple[list[int], tuple[float, float]]:
    """Return the numbers of voxels by value, from the 1 % quantile to the maximum, and both ends of the range."""
    few = filtered.reshape(-1)[:: max(1, filtered.size // COUNTED)]
    low, high = float(np.quantile(few[::8], 0.01)), float(filtered.max())
    if not high > low:
        high = low + 1.0
    counts, _ = np.histogram(few, BINS, (low, high))
    return [int(count) for count in counts], (low, high)
