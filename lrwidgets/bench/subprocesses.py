"""Run commands in new processes; record their lines of output with times, and their peak memory."""

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
"""Interval of reading the memory of a process, seconds."""


@dataclass(frozen=True)
class CompletedCommand:
    """Result of a command that succeeded.

    Attributes
    ----------
    seconds : wall time
    lines : (seconds after the start, text) of each line of stdout
    peak_MB : peak resident memory
    """

    seconds: float
    lines: list[tuple[float, str]]
    peak_MB: float

    def when(self, **fields: Any) -> float:
        """Return the seconds after the start at which the first JSON line with these fields was printed.

        Raises InputError if there is none.
        """
        for at, line in self.lines:
            record = json.loads(line)
            if fields.items() <= record.items():
                return at
        raise InputError(f"no line with {fields} was printed")


def run_lrwidgets(*arguments: str) -> CompletedCommand:
    """Run `lrwidgets … --json`. Raises InputError with the command's error message if it fails."""
    return run_command([sys.executable, "-m", "lrwidgets", *arguments, "--json"])


def run_command(command: Sequence[str], folder: Path | None = None) -> CompletedCommand:
    """Run a command until it ends.

    Parameters
    ----------
    command : program and arguments
    folder : working folder; None for the present one

    Returns
    -------
    CompletedCommand

    Raises
    ------
    InputError
        With the last error line that it wrote, if it fails.
    """
    start, lines, peak = time.perf_counter(), [], _PeakMemory()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            peak.watch(process.pid)
            assert process.stdout is not None
            for line in process.stdout:
                lines.append((time.perf_counter() - start, line.rstrip("\n")))
            status = process.wait()
            seconds = time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
            peak.stop()
        errors.seek(0)
        if status != 0:
            raise command_error(command, status, errors.read() or "\n".join(text for _, text in lines))
    return CompletedCommand(seconds, lines, peak.MB)


def command_error(command: Sequence[str], status: int, output: str) -> InputError:
    """Return an error with one line of a program's output: the last that contains "error", or else the last."""
    lines = [line.strip() for line in output.splitlines() if re.search(r"\w", line)]
    errors = [line for line in lines if "error" in line.lower()] or lines or ["no output"]
    name = " ".join(command[2:4]) if command[1:2] == ["-m"] else Path(command[0]).name
    return InputError(f"{name} ended with status {status}: {errors[-1]}")


class _PeakMemory:
    """Thread that watches the peak resident memory of a process.

    `getrusage` is not enough: a child starts with the peak of the process that it was forked from.
    """

    def __init__(self) -> None:
        self.MB = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, pid: int) -> None:
        """Start to watch a process."""
        self._thread = threading.Thread(target=self._sample, args=(Path(f"/proc/{pid}/status"),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self, status: Path) -> None:
        """Read the peak until stopped, or until the process ends."""
        while not self._stopped.wait(SAMPLED_S):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                return
            self.MB = max([self.MB] + [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")])
