"""`lrwidgets check`: verify every step and mask of a run by its checksum."""

from argparse import Namespace
from dataclasses import asdict

from lrcore.errors import InputError
from lrcore.results.verification import verify_run
from lrwidgets.cli.printer import Printer


def check(arguments: Namespace) -> None:
    """Print damaged parts of a run and remains of interrupted writes. Raises InputError if anything is damaged."""
    run, printer = arguments.run, Printer(arguments.json)
    result = verify_run(run)
    lines = [f"{name}: {problem}" for name, problem in result.damaged.items()]
    lines += [f"{name}: intact, but follows a damaged step" for name in result.whole if name not in result.usable]
    lines += [f"{name}: unfinished or interrupted write; it is ignored" for name in result.left]
    steps = len(result.whole) + _count_steps(result.damaged)
    lines.append(f"{run}: {len(result.usable)} of {steps} steps are intact")
    printer.report("\n".join(lines), "check", run=run, **asdict(result))
    if result.damaged:
        last = max(result.usable, default=None)
        remedy = (
            f"restore it from a copy, or continue from {last} (--resume, rewind)" if last else "restore it from a copy"
        )
        raise InputError(f"{run}: {len(result.damaged)} damaged: {remedy}")


def _count_steps(damaged: dict[str, str]) -> int:
    """Return how many of the damaged parts are steps."""
    return sum(not name.startswith(("mask", "uncertainty")) for name in damaged)
