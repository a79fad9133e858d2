"""The commands that tell of a run: its tree of steps, and advice on a step."""

from argparse import Namespace
from dataclasses import asdict

from lrcore.errors import InputError
from lrwidgets.commands import node_of
from lrwidgets.present import findings
from lrwidgets.session import Session
from lrwidgets.table import Printer
from lrwidgets.view import resolve

INDENT = "  "


def tree(arguments: Namespace) -> None:
    """The steps of a run, branches below what they grew from, with what is other in each."""
    with Session.open(arguments.run, write=False) as session:
        shown = resolve(session.spec, session.state).tree
    if not shown:
        raise InputError(f"{arguments.run}: has no whole step yet")
    lines = [f"{INDENT * branch.depth}{'> ' if branch.here else '  '}{branch.label}" for branch in shown]
    Printer(arguments.json).tell("\n".join(lines), "tree", steps=[asdict(branch) for branch in shown])


def advise(arguments: Namespace) -> None:
    """What a step says about its settings, and the change that may mend it."""
    with Session.open(arguments.run, write=False) as session:
        node = node_of(session, arguments.run, arguments.iteration)
        found = findings(session, node.id)
    printer = Printer(arguments.json)
    lines = []
    for one in found:
        lines.append(one.finding)
        if one.remedy:
            lines.append(f"  {one.remedy}")
        if one.changes:
            settings = (f'--set "{name}={"none" if value is None else value}"' for name, value in one.changes.items())
            lines.append("  " + " ".join(settings) + (", from the start" if one.from_start else ""))
    printer.tell("\n".join(lines), "advice", findings=[asdict(one) for one in found])
