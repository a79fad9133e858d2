"""Find a step of a run, and print what a run holds."""

import json
from dataclasses import asdict
from pathlib import Path

from lrcore.errors import InputError
from lrcore.records import IterationSummary
from lrcore.results.store import StepNode
from lrcore.results.zarr_store import Store
from lrwidgets.cli.printer import Printer
from lrwidgets.session.session import Session
from lrwidgets.text.formatting import format_for_display
from lrwidgets.text.parameters import DEFAULT_SPEC


def find_node(session: Session, run: Path, iteration: int | None) -> StepNode:
    """Find the step of an iteration on the newest branch.

    Parameters
    ----------
    session : session on the run
    run : folder of the run, for messages
    iteration : its number; None for the last one

    Returns
    -------
    StepNode

    Raises
    ------
    InputError
        If the run has no complete step, or not this iteration.
    """
    path = session.path()
    if not path:
        raise InputError(f"{run}: has no complete step yet: continue it with lrwidgets refine ... --resume")
    if iteration is None:
        return path[-1]
    nodes = [node for node in path if node.iteration == iteration]
    if not nodes:
        raise InputError(f"iteration {iteration}: {run} has iterations 0 to {path[-1].iteration}")
    return nodes[0]


def print_run_info(printer: Printer, path: Path) -> None:
    """Print the inputs of a run, its tree, and the history of its newest branch."""
    store = Store.open(path, write=False)
    tree, head = store.tree(), store.head
    history = store.history(head.id) if head else ()
    if printer.as_json:
        nodes = [{"node": n.id, "parent": n.parent, "iteration": n.iteration} for n in tree]
        spec = head.spec.model_dump() if head else None
        summaries = [asdict(summary) for summary in history]
        printer.report("", "info", file=path, kind="run", inputs=store.inputs, spec=spec, tree=nodes, history=summaries)
        return
    for name, facts in store.inputs.items():
        printer.print_line(f"{name}: {facts.get('path') or format_for_display(facts)}")
    if head is None:
        printer.print_line("no complete step yet")
        return
    changed = {k: v for k, v in head.spec.model_dump().items() if v != getattr(DEFAULT_SPEC, k)}
    printer.print_line(f"parameters that differ from the default: {json.dumps(changed) if changed else 'none'}")
    leaves = len(tree) - len({node.parent for node in tree if node.parent})
    printer.print_line(f"steps: {len(tree)}, branches: {leaves}; history of the newest:")
    print_history(printer, history)


def print_history(printer: Printer, history: tuple[IterationSummary, ...]) -> None:
    """Print one line per iteration."""
    for summary in history:
        printer.print_iteration("", summary)
