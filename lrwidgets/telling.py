"""The commands that tell of a run: its tree of steps, and advice on a step."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from lrcore import io
from lrcore.advice import Advice
from lrcore.errors import InputError
from lrwidgets.advising import findings
from lrwidgets.commands import node_of
from lrwidgets.gallery import EVIDENCE
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
    masks = [one.mask for one in found if one.mask is not None]
    if arguments.mask_out and not masks:
        raise InputError(f"{arguments.run}: no other mask is advised: {arguments.mask_out} is not written")
    printer = Printer(arguments.json)
    lines = [line for one in found for line in _lines(one)]
    printer.tell("\n".join(lines), "advice", findings=[_plain(one) for one in found])
    if arguments.mask_out:
        io.write_volume(arguments.mask_out, masks[0])
        printer.tell(f"wrote {arguments.mask_out}", "written", path=arguments.mask_out)


def _lines(one: Advice) -> Iterator[str]:
    yield one.finding
    if one.remedy:
        yield f"  {one.remedy}"
    if one.changes:
        settings = (f'--set "{name}={"none" if value is None else value}"' for name, value in one.changes.items())
        yield "  " + " ".join(settings) + (", from the start" if one.from_start else "")
    if one.name in EVIDENCE:
        yield f"  to be seen in the figure {EVIDENCE[one.name]}"
    if one.mask is not None:
        yield "  --mask-out FILE.mrc writes that mask"


def _plain(one: Advice) -> dict[str, Any]:
    """The finding without the mask itself."""
    fields = {name: value for name, value in vars(one).items() if name != "mask"}
    return {**fields, "has_mask": one.mask is not None, "figure": EVIDENCE.get(one.name)}
