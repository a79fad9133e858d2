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
"""Commands with their own event loop, in which Python does not handle signals."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send before SIGKILL; it ends a command like Ctrl-C."""


def main(argv: list[str] | None = None, **hooks: Any) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    argv : arguments, without the name of the program; None for those of this process
    **hooks : keyword arguments of the command's function, for tests (`engine` of refine)

    Returns
    -------
    int
        0 for success, or one of the exit statuses of this module.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warning_printer()
            arguments = parser().parse_args(argv, argparse.Namespace(json=False))
            from lrwidgets.cli.outputs import require_writable_outputs  # after the help, which is to start quickly

            command = import_module(f"lrwidgets.cli.{arguments.command}")
            require_writable_outputs(arguments)
            with _sigterm_raises(arguments.command):
                getattr(command, arguments.command)(arguments, **hooks)
    except BrokenPipeError:
        # The reader of the output has closed the pipe; nothing more can be written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        return _print_error(str(error) or "interrupted", TERMINATED if terminated else INTERRUPTED)
    except Exception as error:
        if is_internal(error) and os.environ.get(DEBUG_VARIABLE):
            raise
        return _print_error(error_message(error), INTERNAL if is_internal(error) else UNUSABLE)
    return 0


@contextlib.contextmanager
def _sigterm_raises(command: str) -> Iterator[None]:
    """Let SIGTERM raise Terminated, unless it is ignored or handled already, or this is not the main thread."""
    can_handle = threading.current_thread() is threading.main_thread() and command not in EVENT_LOOP_COMMANDS
    if not can_handle or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def raise_terminated(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _print_error(message: str, status: int = UNUSABLE) -> int:
    """Print a message as one line on stderr and return the status."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status


def _warning_printer() -> Callable[..., None]:
    """Return a replacement of `warnings.showwarning` that prints each warning as one line, once."""
    printed: set[str] = set()

    def warn(message: Warning | str, *_: Any) -> None:
        line = " ".join(str(message).split())
        if line not in printed:
            printed.add(line)
            print("warning:", line, file=sys.stderr)

    return warn
