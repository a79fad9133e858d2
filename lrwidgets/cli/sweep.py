"""`lrwidgets sweep`: try parameter values on a subset of the particles of a run and rank them."""

from argparse import Namespace
from typing import Any

import xarray as xr

from lrcore.errors import InputError
from lrcore.records import Progress
from lrwidgets.cli.printer import Printer
from lrwidgets.export.step_files import write_netcdf
from lrwidgets.session import sweep as session_sweep
from lrwidgets.session.session import Session


def sweep(arguments: Namespace) -> None:
    """Run one iteration of a subset under each setting, and rank the settings by the likelihood of held-out images."""
    over = _parse_settings(arguments.over)
    printer = Printer(arguments.json)
    with Session.open(arguments.run, images=arguments.images, write=False) as session:
        result: xr.Dataset | None = None
        for event in session_sweep.sweep(session, over, arguments.subset):
            if isinstance(event, Progress):
                printer.show_progress(event)
            else:
                result = event
    printer.close()
    assert result is not None
    if arguments.out is not None:
        write_netcdf(arguments.out, xr.DataTree(result))
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.sweep(result), arguments.plot)
    for note in session_sweep.ranking_notes(result):
        printer.note(note)
    columns = {str(name): result[name].values.ravel() for name in result.data_vars}
    printer.report(session_sweep.ranking_table(result), "sweep", over=over, **columns)


def _parse_settings(texts: list[str]) -> dict[str, list[Any]]:
    """Return field → values of texts `name=value,value`; the separator is ; if values contain commas."""
    over: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--over {text}: write name=value,value")
        over[name.strip()] = session_sweep.parse_values(name.strip(), values)
    return over
