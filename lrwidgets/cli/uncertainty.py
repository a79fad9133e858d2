"""`lrwidgets uncertainty`: estimate the uncertainty of the poses of a step under the map of the other half set."""

from argparse import Namespace

import numpy as np
import xarray as xr

from lrcore.analysis.pose_uncertainty import pose_sds
from lrcore.arrays import Float64
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.export.step_files import write_netcdf
from lrwidgets.session.session import Session


def uncertainty(arguments: Namespace) -> None:
    """Sample the posterior of every pose, store the result in the run, and print its quartiles."""
    printer = Printer(arguments.json)
    with Session.open(
        arguments.run, images=arguments.images, backend=arguments.backend, threads=arguments.threads
    ) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        result = session.uncertainty(node.id, printer.show_progress)
        tree = session.results(node.id)
    printer.close()
    searched = tree["particles"].to_dataset().isel(iteration=-1)
    here, before = ([_quartiles(sd) for sd in pose_sds(data["covariance"].values)] for data in (result, searched))
    lines = [
        f"iteration {node.iteration}: {result.sizes['particle']} particles; stored in the run for exports and figures",
        *(
            f"{name:12} {now[1]:.2f}{unit} per axis, median ({now[0]:.2f} to {now[2]:.2f}, quartiles); "
            f"the search estimated {then[1]:.2f}{unit}"
            for name, unit, now, then in zip(("rotation", "shift"), ("°", " Å"), here, before, strict=True)
        ),
    ]
    rotation, shift = here
    numbers = {"rotation_sd_quartiles": rotation, "shift_sd_quartiles": shift}
    printer.report("\n".join(lines), "uncertainty", node=node.id, **numbers)
    if arguments.out is not None:
        write_netcdf(arguments.out, xr.DataTree(result))
        printer.report_file(arguments.out)
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.uncertainty(tree), arguments.plot)


def _quartiles(sd: Float64) -> list[float]:
    """Return the quartiles."""
    return [float(value) for value in np.quantile(sd, (0.25, 0.5, 0.75))]
