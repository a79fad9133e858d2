"""lrwidgets check: every step and mask of a run, verified by its checksum."""

from argparse import Namespace
from dataclasses import asdict

from lrcore.errors import InputError
from lrcore.results.verification import verify_run
from lrwidgets.cli.printer import Printer


def check(arguments: Namespace) -> None:
    """Tell what is whole, what is damaged and what was left. Raises InputError if anything is damaged."""
    run, printer = arguments.run, Printer(arguments.json)
    found = verify_run(run)
    lines = [f"{name}: {what}" for name, what in found.damaged.items()]
    lines += [f"{name}: whole, but it grew from a step that is not" for name in found.whole if name not in found.usable]
    lines += [f"{name}: left by a write that is under way or was interrupted; it never counts" for name in found.left]
    lines.append(f"{run}: {len(found.usable)} of {len(found.whole) + _steps(found.damaged)} steps are whole")
    printer.report("\n".join(lines), "check", run=run, **asdict(found))
    if found.damaged:
        last = max(found.usable, default=None)
        remedy = (
            f"restore it from a copy, or go on from {last} (--resume, rewind)" if last else "restore it from a copy"
        )
        raise InputError(f"{run}: {len(found.damaged)} damaged: {remedy}")


def _steps(damaged: dict[str, str]) -> int:
    return sum(not name.startswith(("mask", "uncertainty")) for name in damaged)
