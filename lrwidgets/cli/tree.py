"""`lrwidgets tree`: print the steps of a run and its branches."""

from argparse import Namespace
from dataclasses import asdict

from lrcore.errors import InputError
from lrwidgets.cli.printer import Printer
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import make_view_state

INDENT = "  "


def tree(arguments: Namespace) -> None:
    """The steps of a run, branches below what they grew from, with what is other in each."""
    with Session.open(arguments.run, write=False) as session:
        shown = make_view_state(session.spec, session.state).tree
    if not shown:
        raise InputError(f"{arguments.run}: has no whole step yet")
    lines = [f"{INDENT * branch.depth}{'> ' if branch.is_present else '  '}{branch.label}" for branch in shown]
    Printer(arguments.json).report("\n".join(lines), "tree", steps=[asdict(branch) for branch in shown])
