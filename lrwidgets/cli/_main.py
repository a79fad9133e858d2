"""Run the command line: arguments in, exit status out (0 success, 2 unusable input)."""

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NoReturn

from lrwidgets.cli.arguments import parser
from lrwidgets.text.errors import DEBUG_VARIABLE, error_message, is_internal

UNUSABLE, INTERNAL, INTERRUPTED, TERMINATED = 2, 1, 130, 143
"""Exit statuses."""
EVENT_LOOP_COMMANDS = ("napari",)
"""Commands with an event loop of their own, which would not let Python hear a signal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a batch system sends it before it kills: it ends a command as Ctrl-C does."""


def main(argv: list[str] | None = None, **hooks: Any) -> int:
    """Run a command and return its exit status. hooks: `engine`, for tests."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warner()
            arguments = parser().parse_args(argv, argparse.Namespace(json=False))
            command = import_module(f"lrwidgets.cli.{arguments.command}")
            with _sigterm_raises(arguments.command):
                getattr(command, arguments.command)(arguments, **hooks)
    except BrokenPipeError:
        # Whoever reads our output has enough; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        return _refuse(str(error) or "interrupted", TERMINATED if terminated else INTERRUPTED)
    except Exception as error:
        if is_internal(error) and os.environ.get(DEBUG_VARIABLE):
            raise
        return _refuse(error_message(error), INTERNAL if is_internal(error) else UNUSABLE)
    return 0


@contextlib.contextmanager
def _sigterm_raises(command: str) -> Iterator[None]:
    """SIGTERM raises Terminated meanwhile; where it is ignored or heeded already, or off the main thread, it stays."""
    ours = threading.current_thread() is threading.main_thread() and command not in EVENT_LOOP_COMMANDS
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def raised(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, raised)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _refuse(message: str, status: int = UNUSABLE) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status


def _warner() -> Callable[..., None]:
    """What shows warnings: a line each, and the same line once only, whatever place of the code it comes from."""
    said: set[str] = set()

    def warn(message: Warning | str, *_: Any) -> None:
        line = " ".join(str(message).split())
        if line not in said:
            said.add(line)
            print("warning:", line, file=sys.stderr)

    return warn
