"""lrwidgets sweep: try settings on a subset of the particles of a run."""

from argparse import Namespace
from typing import Any

import xarray as xr

from lrcore.errors import InputError
from lrcore.records import Progress
from lrwidgets import trials
from lrwidgets.export import netcdf
from lrwidgets.session import Session
from lrwidgets.table import Printer


def sweep(arguments: Namespace) -> None:
    """Try settings on a subset, from an iteration of a run, and say which predicts images best."""
    over = _given(arguments.over)
    printer = Printer(arguments.json)
    with Session.open(arguments.run, images=arguments.images, write=False) as session:
        found: xr.Dataset | None = None
        for event in trials.sweep(session, over, arguments.subset):
            if isinstance(event, Progress):
                printer.progress(event)
            else:
                found = event
    printer.close()
    assert found is not None
    if arguments.out is not None:
        netcdf(arguments.out, xr.DataTree(found))
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.sweep(found), arguments.plot)
    columns = {str(name): found[name].values.ravel() for name in found.data_vars}
    printer.tell(trials.table(found), "sweep", over=over, **columns)


def _given(texts: list[str]) -> dict[str, list[Any]]:
    """`name=value,value` texts as field → values; separated by ; where the values hold commas."""
    over: dict[str, list[Any]] = {}
    for given in texts:
        name, equals, values = given.partition("=")
        if not equals:
            raise InputError(f"--over {given}: write name=value,value")
        over[name.strip()] = trials.values(name.strip(), values)
    return over
