"""lrwidgets uncertainty: how far the poses of a step may be off, asked of the map that has not seen their images."""

from argparse import Namespace

import numpy as np
import xarray as xr

from lrwidgets.commands import node_of
from lrwidgets.export import netcdf
from lrwidgets.session import Session
from lrwidgets.table import Printer


def uncertainty(arguments: Namespace) -> None:
    """Draw from the posterior of every pose, keep in the run what the draws say, and tell it."""
    printer = Printer(arguments.json)
    with Session.open(
        arguments.run, images=arguments.images, backend=arguments.backend, threads=arguments.threads
    ) as session:
        node = node_of(session, arguments.run, arguments.iteration)
        found = session.uncertainty(node.id, printer.progress)
        tree = session.results(node.id)
    printer.close()
    searched = tree["particles"].to_dataset().isel(iteration=-1)
    names = ("rotation_sd", "shift_sd")
    here, before = ([_quartiles(data[name]) for name in names] for data in (found, searched))
    lines = [
        f"iteration {node.iteration}: {found.sizes['particle']} particles; kept in the run, for exports and figures",
        *(
            f"{what:12} {now[1]:.2f}{unit} per axis, median ({now[0]:.2f} to {now[2]:.2f}, quartiles); "
            f"the search promised {then[1]:.2f}{unit}"
            for what, unit, now, then in zip(("rotation", "shift"), ("°", " Å"), here, before, strict=True)
        ),
    ]
    numbers = {f"{name}_quartiles": value for name, value in zip(names, here, strict=True)}
    printer.tell("\n".join(lines), "uncertainty", node=node.id, **numbers)
    if arguments.out is not None:
        netcdf(arguments.out, xr.DataTree(found))
        printer.tell(f"wrote {arguments.out}", "written", path=arguments.out)
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.uncertainty(tree), arguments.plot)


def _quartiles(sd: xr.DataArray) -> list[float]:
    """Of the root mean squares over the axes of SDs (particle, axis)."""
    each = np.sqrt((sd.values**2).mean(axis=-1))
    return [float(value) for value in np.quantile(each, (0.25, 0.5, 0.75))]
