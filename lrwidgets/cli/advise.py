"""`lrwidgets advise`: check a step of a run and suggest better settings."""

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
    """Print the findings on a step and their remedies, and write the suggested mask."""
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        advice = findings(session, node.id)
    masks = [finding.mask for finding in advice if finding.mask is not None]
    if arguments.mask_out and not masks:
        raise InputError(f"{arguments.run}: no finding suggests another mask: leave out --mask-out")
    printer = Printer(arguments.json)
    lines = [line for finding in advice for line in _lines(finding)]
    printer.report("\n".join(lines), "advice", findings=[_fields(finding) for finding in advice])
    if arguments.mask_out:
        io.write_volume(arguments.mask_out, masks[0])
        printer.report_file(arguments.mask_out)


def _lines(finding: Finding) -> Iterator[str]:
    """Yield the finding, its remedy, and how to apply it."""
    yield finding.finding
    if finding.remedy:
        yield f"  {finding.remedy}"
    if finding.changes:
        settings = (f'--set "{name}={"none" if value is None else value}"' for name, value in finding.changes.items())
        yield "  " + " ".join(settings) + (", from the start" if finding.from_start else "")
    if finding.name in FIGURE_OF_FINDING:
        yield f"  see the figure {FIGURE_OF_FINDING[finding.name]}"
    if finding.mask is not None:
        yield "  --mask-out FILE.mrc writes this mask"


def _fields(finding: Finding) -> dict[str, Any]:
    """Return the fields of a finding, with `has_mask` in place of the mask itself."""
    fields = {name: value for name, value in vars(finding).items() if name != "mask"}
    return {**fields, "has_mask": finding.mask is not None, "figure": FIGURE_OF_FINDING.get(finding.name)}
