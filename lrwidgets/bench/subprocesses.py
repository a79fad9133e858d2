"""Commands as a person runs them: a fresh process, its lines with their times, its peak of memory."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrcore.errors import InputError

SAMPLED_S = 0.02


@dataclass(frozen=True)
class CompletedCommand:
    """seconds: wall time. lines: (seconds after the start, text) of stdout. peak_MB: of resident memory."""

    seconds: float
    lines: list[tuple[float, str]]
    peak_MB: float

    def when(self, **fields: Any) -> float:
        """Seconds after the start at which the first JSON line with these fields was printed."""
        for at, line in self.lines:
            record = json.loads(line)
            if fields.items() <= record.items():
                return at
        raise InputError(f"no line with {fields} was printed")


def run_lrwidgets(*arguments: str) -> CompletedCommand:
    """Run `lrwidgets … --json`. Raises InputError with the command's own last words if it fails."""
    return run_command([sys.executable, "-m", "lrwidgets", *arguments, "--json"])


def run_command(command: Sequence[str], folder: Path | None = None) -> CompletedCommand:
    """Run a command to its end. Raises InputError with the last line that it wrote if it fails."""
    began, lines, peak = time.perf_counter(), [], _PeakMemory()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            peak.watch(process.pid)
            assert process.stdout is not None
            for line in process.stdout:
                lines.append((time.perf_counter() - began, line.rstrip("\n")))
            status = process.wait()
            spent = time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
            peak.stop()
        errors.seek(0)
        if status != 0:
            raise command_error(command, status, errors.read() or "\n".join(text for _, text in lines))
    return CompletedCommand(spent, lines, peak.MB)


def command_error(command: Sequence[str], status: int, said: str) -> InputError:
    """One line of what a program said before it failed: the last that speaks of an error, or else the last."""
    words = [line.strip() for line in said.splitlines() if re.search(r"\w", line)]
    telling = [line for line in words if "error" in line.lower()] or words or ["it said nothing"]
    name = " ".join(command[2:4]) if command[1:2] == ["-m"] else Path(command[0]).name
    return InputError(f"{name} ended with status {status}: {telling[-1]}")


class _PeakMemory:
    """Watches the high-water mark of a process's memory.

    `getrusage` would not do: a child begins with the mark of the process that it was forked from.
    """

    def __init__(self) -> None:
        self.MB = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, pid: int) -> None:
        self._thread = threading.Thread(target=self._sample, args=(Path(f"/proc/{pid}/status"),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self, status: Path) -> None:
        while not self._over.wait(SAMPLED_S):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                return
            self.MB = max([self.MB] + [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")])
