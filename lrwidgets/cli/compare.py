"""`lrwidgets compare`: report the differences between two steps of a run."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from lrcore.errors import InputError
from lrcore.maps.local_resolution import LocalResolution
from lrcore.results.store import StepNode
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import local_resolution_of


def compare(arguments: Namespace) -> None:
    """Print the differences between two steps, and plot them."""
    printer = Printer(arguments.json)
    with Session.open(arguments.run, write=False) as session:
        ids = [_step_from_text(session, arguments.run, text).id for text in (arguments.first, arguments.second)]
        comparison = session.compare(ids[0], ids[1], images=arguments.held_out)
        local = _local_resolution(session, printer, ids) if arguments.local else None
    if arguments.plot:
        from lrwidgets import plots

        plots.save(plots.compare(comparison), arguments.plot)
    sentences = list(comparison.sentences)
    facts: dict[str, Any] = {
        name: float(comparison.poses[name].median()) for name in ("angle_difference", "shift_difference")
    }
    if comparison.held_out is not None:
        facts |= comparison.held_out.attrs
    if local is not None:
        quartiles = " → ".join(", ".join(f"{value:.2f}" for value in result.quartiles_A) for result in local)
        windows = " and ".join(f"{result.window_A:.0f}" for result in local)
        sentences.append(f"local resolution inside the mask, quartiles: {quartiles} Å (windows of {windows} Å)")
        facts["local_resolution_quartiles_A"] = [result.quartiles_A for result in local]
    printer.report("\n".join(sentences), "compare", nodes=comparison.names, spec=comparison.spec, **facts)


def _local_resolution(session: Session, printer: Printer, ids: list[str]) -> list[LocalResolution]:
    """Return the local resolution of each step, from its half maps inside its mask."""

    def show(text: str) -> None:
        if not printer.as_json and sys.stderr.isatty():
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)

    return [local_resolution_of(session, name, show) for name in ids]


def _step_from_text(session: Session, run: Path, text: str) -> StepNode:
    """Return the step of an iteration of the newest branch, or the only one whose name begins with the text."""
    if text.isdigit() and len(text) < 4:
        return find_node(session, run, int(text))
    nodes = [node for node in session.state.tree if node.id.startswith(text)]
    if len(nodes) != 1:
        names = ", ".join(node.id for node in nodes or session.state.tree)
        raise InputError(f"{text}: matches {len(nodes) or 'no'} steps of {run}: choose one of {names}")
    return nodes[0]
