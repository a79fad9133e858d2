"""Sharpen the map of a step by the B-factor of its Guinier plot."""

from collections.abc import Callable

from lrcore.errors import InputError
from lrcore.io.fsc_curves import KIND
from lrcore.maps.sharpening import Guinier, fit_guinier, fsc_weight, sharpen
from lrcore.records import Step, Volume
from lrcore.refinement.job import Job

SHARPENED_FILE = "sharpened.mrc"


def sharpen_step(job: Job, step: Step) -> tuple[Volume, Guinier]:
    """Return the mean of the half maps, weighted by their corrected FSC and sharpened, as `lrwidgets filter` does.

    Parameters
    ----------
    job : the job that the step was run with, for the origin in the header of its mask
    step : the step

    Returns
    -------
    tuple[Volume, Guinier]
        The map, (n, n, n), and the fit of its B-factor.

    Raises
    ------
    InputError
        If the resolution is too low to fit a B-factor.
    """
    first, curve = step.half_maps.first, step.fsc[KIND]
    mean = 0.5 * (first.data + step.half_maps.second.data)
    plot = fit_guinier(mean, curve)
    data = sharpen(mean, first.pixel_size_A, plot.bfactor_A2, fsc_weight(curve))
    return Volume(data, first.pixel_size_A, job.mask.header_origin_A), plot


def try_to_sharpen(job: Job, step: Step, report: Callable[[str], None]) -> tuple[Volume, Guinier] | None:
    """Return the result of `sharpen_step`, or None if the resolution is too low; report which, and the B-factor."""
    try:
        volume, plot = sharpen_step(job, step)
    except InputError:
        resolution = step.fsc[KIND].resolution_A()
        report(
            f"no {SHARPENED_FILE}: a resolution of {resolution:.1f} Å is too low to fit a B-factor: sharpen by hand, "
            "lrwidgets filter half1.mrc half2.mrc --sharpen B"
        )
        return None
    coarse, fine = plot.range_A
    report(
        f"{SHARPENED_FILE}: B-factor {plot.bfactor_A2:.1f} Å², fitted from {coarse:.3g} to {fine:.3g} Å "
        f"(correlation {plot.correlation:.3f})"
    )
    return volume, plot
