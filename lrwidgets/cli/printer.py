"""Print the output of commands: text or JSON lines, one line per iteration, and a progress bar on a terminal."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from lrcore.records import IterationSummary, Progress
from lrwidgets.text.formatting import HISTORY_HEADER, format_iteration

UNITS = {"local resolution": " windows"}
"""Stage → unit of its progress; particles for the others."""


def json_line(event: str, **fields: Any) -> str:
    """Return one JSON object on one line; numbers that are not finite are null."""
    return json.dumps({"event": event, **_plain(fields)}, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    """Return a value as JSON types."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Printer:
    """Printer of lines on stdout and, if stderr is a terminal, of a progress bar below them.

    Attributes
    ----------
    as_json : True to print JSON lines instead of text
    """

    def __init__(self, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._stage: tuple[int, str] | None = None
        self._has_header = False

    def print_line(self, text: str) -> None:
        """Print a line on stdout, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self._out, flush=True)

    def report(self, text: str, event: str, **fields: Any) -> None:
        """Print a text or, with --json, an event with its fields."""
        self.print_line(json_line(event, **fields) if self.as_json else text)

    def report_file(self, path: Path, note: str = "", **fields: Any) -> None:
        """Print that a file or folder has been written, with a note about it or, with --json, with fields."""
        self.report(f"wrote {path}" + (f" ({note})" if note else ""), "written", path=path, **fields)

    def note(self, text: str) -> None:
        """Print a line for people on stderr, apart from the results."""
        print(text, file=self._err)

    def print_iteration(self, node: str, summary: IterationSummary) -> None:
        """Print the line of an iteration, the first one below the header."""
        if not self.as_json and not self._has_header:
            self.print_line(HISTORY_HEADER)
            self._has_header = True
        self.print_line(
            json_line("iteration", node=node, **asdict(summary)) if self.as_json else format_iteration(summary)
        )

    def show_progress(self, progress: Progress) -> None:
        """Move the bar; each stage has its own."""
        if not self._err.isatty():
            return
        if self._stage != (progress.iteration, progress.stage):
            self.close()
            self._stage = (progress.iteration, progress.stage)
            name = f"iteration {progress.iteration}: {progress.stage}" if progress.iteration else progress.stage
            unit = UNITS.get(progress.stage, " particles")
            self._bar = tqdm(total=progress.total, desc=name, unit=unit, leave=False, file=self._err)
        if self._bar is not None:
            self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._stage = None, None
