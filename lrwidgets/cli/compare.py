"""`lrwidgets compare`: report the differences between two steps of a run."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lrcore.errors import InputError
from lrcore.results.store import StepNode
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.session.session import Session

if TYPE_CHECKING:
    from lrcore.maps.local_resolution import LocalResolution


def compare(arguments: Namespace) -> None:
    """Tell in what two steps differ, and draw it."""
    printer = Printer(arguments.json)
    with Session.open(arguments.run, write=False) as session:
        ids = [_step_from_text(session, arguments.run, text).id for text in (arguments.first, arguments.second)]
        found = session.compare(ids[0], ids[1], images=arguments.held_out)
        local = _local_resolution(session, printer, ids) if arguments.local else None
    if arguments.plot:
        from lrwidgets import plots

        plots.save(plots.compare(found), arguments.plot)
    medians = {name: float(found.poses[name].median()) for name in ("angle_difference", "shift_difference")}
    told = {} if found.held_out is None else dict(found.held_out.attrs)
    sentences = list(found.sentences)
    if local is not None:
        quartiles = " → ".join(", ".join(f"{value:.2f}" for value in one.quartiles_A) for one in local)
        windows = " and ".join(f"{one.window_A:.0f}" for one in local)
        sentences.append(f"local resolution inside the mask, quartiles: {quartiles} Å (windows of {windows} Å)")
        told["local_resolution_quartiles_A"] = [one.quartiles_A for one in local]
    printer.report("\n".join(sentences), "compare", nodes=found.names, spec=found.spec, **medians, **told)


def _local_resolution(session: Session, printer: Printer, ids: list[str]) -> list["LocalResolution"]:
    """Of each step, by its half maps inside its mask."""
    from lrwidgets.session.step_analysis import local_resolution_of

    def tell(text: str) -> None:
        if not printer.as_json and sys.stderr.isatty():
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)

    return [local_resolution_of(session, name, tell) for name in ids]


def _step_from_text(session: Session, run: Path, text: str) -> StepNode:
    """The step of that iteration on the newest branch, or the only one whose name begins so."""
    if text.isdigit() and len(text) < 4:
        return find_node(session, run, int(text))
    found = [node for node in session.state.tree if node.id.startswith(text)]
    if len(found) != 1:
        names = ", ".join(node.id for node in found or session.state.tree)
        raise InputError(f"{text}: names {len(found) or 'no'} steps of {run}: choose one of {names}")
    return found[0]
