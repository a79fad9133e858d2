"""lrwidgets sweep: try settings on a subset of the particles of a run."""

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
    """Try settings on a subset, from an iteration of a run, and say which predicts images best."""
    over = _parse_settings(arguments.over)
    printer = Printer(arguments.json)
    with Session.open(arguments.run, images=arguments.images, write=False) as session:
        found: xr.Dataset | None = None
        for event in session_sweep.sweep(session, over, arguments.subset):
            if isinstance(event, Progress):
                printer.show_progress(event)
            else:
                found = event
    printer.close()
    assert found is not None
    if arguments.out is not None:
        write_netcdf(arguments.out, xr.DataTree(found))
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.sweep(found), arguments.plot)
    columns = {str(name): found[name].values.ravel() for name in found.data_vars}
    printer.report(session_sweep.ranking_table(found), "sweep", over=over, **columns)


def _parse_settings(texts: list[str]) -> dict[str, list[Any]]:
    """`name=value,value` texts as field → values; separated by ; where the values hold commas."""
    over: dict[str, list[Any]] = {}
    for given in texts:
        name, equals, values = given.partition("=")
        if not equals:
            raise InputError(f"--over {given}: write name=value,value")
        over[name.strip()] = session_sweep.parse_values(name.strip(), values)
    return over
