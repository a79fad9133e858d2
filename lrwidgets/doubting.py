"""lrwidgets uncertainty: how far the poses of a step may be off, asked of the map that has not seen their images."""

from argparse import Namespace

import numpy as np
import xarray as xr

from lrcore.records import Float64
from lrcore.uncertainty import sds
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
    here, before = ([_quartiles(sd) for sd in sds(data["covariance"].values)] for data in (found, searched))
    lines = [
        f"iteration {node.iteration}: {found.sizes['particle']} particles; kept in the run, for exports and figures",
        *(
            f"{what:12} {now[1]:.2f}{unit} per axis, median ({now[0]:.2f} to {now[2]:.2f}, quartiles); "
            f"the search promised {then[1]:.2f}{unit}"
            for what, unit, now, then in zip(("rotation", "shift"), ("°", " Å"), here, before, strict=True)
        ),
    ]
    rotation, shift = here
    numbers = {"rotation_sd_quartiles": rotation, "shift_sd_quartiles": shift}
    printer.tell("\n".join(lines), "uncertainty", node=node.id, **numbers)
    if arguments.out is not None:
        netcdf(arguments.out, xr.DataTree(found))
        printer.tell(f"wrote {arguments.out}", "written", path=arguments.out)
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.uncertainty(tree), arguments.plot)


def _quartiles(sd: Float64) -> list[float]:
    return [float(value) for value in np.quantile(sd, (0.25, 0.5, 0.75))]
