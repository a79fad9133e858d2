"""`lrwidgets tree`: print the steps of a run and its branches."""

from argparse import Namespace
from dataclasses import asdict

from lrcore.errors import InputError
from lrwidgets.cli.printer import Printer
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import make_view_state

INDENT = "  "


def tree(arguments: Namespace) -> None:
    """Print the steps of a run, branches below the step they start from, with the settings that differ."""
    with Session.open(arguments.run, write=False) as session:
        branches = make_view_state(session.spec, session.state).tree
    if not branches:
        raise InputError(f"{arguments.run}: has no complete step yet: continue it with lrwidgets refine ... --resume")
    lines = [f"{INDENT * branch.depth}{'> ' if branch.is_present else '  '}{branch.label}" for branch in branches]
    Printer(arguments.json).report("\n".join(lines), "tree", steps=[asdict(branch) for branch in branches])
