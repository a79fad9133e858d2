"""What the command line prints: one line for each iteration, JSON lines, and a progress bar on a terminal."""

import json
import math
import sys
from dataclasses import asdict
from typing import Any, TextIO

from tqdm import tqdm

from lrcore.records import IterationSummary, Progress
from lrwidgets.text.formatting import HISTORY_HEADER, format_iteration

UNITS = {"local resolution": " windows"}
"""Stage → what is counted in it; elsewhere particles."""


def json_line(event: str, **fields: Any) -> str:
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

    def print_line(self, text: str) -> None:
        """A line on stdout, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self._out, flush=True)

    def report(self, text: str, event: str, **fields: Any) -> None:
        """The same for a person or, with --json, for a program."""
        self.print_line(json_line(event, **fields) if self.as_json else text)

    def note(self, text: str) -> None:
        """A line beside the results, for a person."""
        print(text, file=self._err)

    def print_iteration(self, node: str, summary: IterationSummary) -> None:
        """The line of an iteration; the first comes below the header."""
        if not self.as_json and not self._headed:
            self.print_line(HISTORY_HEADER)
            self._headed = True
        self.print_line(
            json_line("iteration", node=node, **asdict(summary)) if self.as_json else format_iteration(summary)
        )

    def show_progress(self, done: Progress) -> None:
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
