"""What the command line prints: one line for each iteration, JSON lines, and a progress bar on a terminal."""

import json
import math
import sys
from dataclasses import asdict
from typing import Any, TextIO

from tqdm import tqdm

from lrcore.records import Progress, Summary

UNITS = {"local resolution": " windows"}
"""Stage → what is counted in it; elsewhere particles."""
HEADER = (
    "      resolution Å       angle °         shift Å       at extents %    memory  particles/s\n"
    "iter  masked   corr.   input   last    input   last    rot.  shift       MB"
)


def line(summary: Summary) -> str:
    """One iteration: FSC 0.143 inside the mask and corrected; median changes from the input and since the last."""
    s = summary
    rates = "  ".join(f"{stage} {rate:.0f}" for stage, rate in s.particles_per_s.items())
    none = f"  skipped {s.skipped}" if s.skipped else ""
    return (
        f"{s.iteration:4d}  {s.resolution_masked_A:6.2f}  {s.resolution_corrected_A:6.2f}"
        f"  {s.angle_from_input_deg:6.2f} {s.angle_since_last_deg:6.2f}"
        f"   {s.shift_from_input_A:6.2f} {s.shift_since_last_A:6.2f}"
        f"  {100 * s.at_rotation_extent:6.1f} {100 * s.at_shift_extent:6.1f}"
        f"  {s.memory_MB:7.0f}  {rates}{none}"
    ).rstrip()


def record(event: str, **fields: Any) -> str:
    """One JSON object on one line; what is not finite is null."""
    return json.dumps({"event": event, **_plain(fields)}, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Printer:
    """Lines on stdout and, where stderr is a terminal, a bar below them."""

    def __init__(self, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._stage: tuple[int, str] | None = None
        self._headed = False

    def say(self, text: str) -> None:
        """A line on stdout, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self._out, flush=True)

    def tell(self, text: str, event: str, **fields: Any) -> None:
        """The same for a person or, with --json, for a program."""
        self.say(record(event, **fields) if self.as_json else text)

    def note(self, text: str) -> None:
        """A line beside the results, for a person."""
        print(text, file=self._err)

    def iteration(self, node: str, summary: Summary) -> None:
        """The line of an iteration; the first comes below the header."""
        if not self.as_json and not self._headed:
            self.say(HEADER)
            self._headed = True
        self.say(record("iteration", node=node, **asdict(summary)) if self.as_json else line(summary))

    def progress(self, done: Progress) -> None:
        """Move the bar; a new stage has a new one."""
        if not self._err.isatty():
            return
        if self._stage != (done.iteration, done.stage):
            self.close()
            self._stage = (done.iteration, done.stage)
            name = f"iteration {done.iteration}: {done.stage}" if done.iteration else done.stage
            unit = UNITS.get(done.stage, " particles")
            self._bar = tqdm(total=done.total, desc=name, unit=unit, leave=False, file=self._err)
        if self._bar is not None:
            self._bar.update(done.done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._stage = None, None


def text(value: Any) -> str:
    """A fact as a person reads it: lists with commas, numbers without trailing zeros."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
