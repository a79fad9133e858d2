"""The commands that tell of a run: its tree of steps, and advice on a step."""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from lrcore import io
from lrcore.analysis.advice.finding import Finding
from lrcore.errors import InputError
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.plots.catalogue import FIGURE_OF_FINDING
from lrwidgets.session.advice import findings
from lrwidgets.session.session import Session


def advise(arguments: Namespace) -> None:
    """What a step says about its settings, and the change that may mend it."""
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        found = findings(session, node.id)
    masks = [one.mask for one in found if one.mask is not None]
    if arguments.mask_out and not masks:
        raise InputError(f"{arguments.run}: no other mask is advised: {arguments.mask_out} is not written")
    printer = Printer(arguments.json)
    lines = [line for one in found for line in _lines(one)]
    printer.report("\n".join(lines), "advice", findings=[_plain(one) for one in found])
    if arguments.mask_out:
        io.write_volume(arguments.mask_out, masks[0])
        printer.report(f"wrote {arguments.mask_out}", "written", path=arguments.mask_out)


def _lines(one: Finding) -> Iterator[str]:
    yield one.finding
    if one.remedy:
        yield f"  {one.remedy}"
    if one.changes:
        settings = (f'--set "{name}={"none" if value is None else value}"' for name, value in one.changes.items())
        yield "  " + " ".join(settings) + (", from the start" if one.from_start else "")
    if one.name in FIGURE_OF_FINDING:
        yield f"  to be seen in the figure {FIGURE_OF_FINDING[one.name]}"
    if one.mask is not None:
        yield "  --mask-out FILE.mrc writes that mask"


def _plain(one: Finding) -> dict[str, Any]:
    """The finding without the mask itself."""
    fields = {name: value for name, value in vars(one).items() if name != "mask"}
    return {**fields, "has_mask": one.mask is not None, "figure": FIGURE_OF_FINDING.get(one.name)}
