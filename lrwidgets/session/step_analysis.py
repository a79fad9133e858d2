"""Analyse the steps of a session for display: maps, pose changes, motion and its fulcrum, local resolution."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import xarray as xr

from lrcore.analysis.motion_estimate import MotionEstimate, estimate_motion, principal_motions
from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.maps.local_resolution import LocalResolution, estimate_local_resolution
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Progress, Step, Volume
from lrcore.refinement.density import final_map, map_with_surroundings
from lrcore.refinement.job import Job
from lrcore.results.tree import mask_dataset, to_tree
from lrcore.units import DEGREE
from lrwidgets.session.session import Session

_lock = threading.Lock()
_local_resolutions: "WeakKeyDictionary[Session, dict[str, LocalResolution]]" = WeakKeyDictionary()
_motion_estimates: "WeakKeyDictionary[Session, tuple[str, MotionEstimate]]" = WeakKeyDictionary()


def current_map(session: Session) -> Volume | None:
    """Return the mean of the half maps of the present step, or of the input; None if there are none yet."""
    halves = session.load_step()[1].half_maps if session.state.node else session.job.half_maps
    if halves is None:
        return None
    first, second = halves.first, halves.second
    return Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A)


def current_fulcrum_estimate(session: Session) -> FulcrumEstimate | None:
    """Return the fulcrum and the motion widths estimated from the present step's poses; None before an iteration."""
    path = session.path()
    return None if len(path) < 2 else motion_estimate_of(session, path[-1].id).overall


def motion_estimate_of(session: Session, node: str) -> MotionEstimate:
    """Return the motion estimated from a step's poses. The last estimate is cached, because it takes seconds.

    Raises InputError for a start, whose poses are the input's.
    """
    with _lock:
        known = _motion_estimates.get(session)
        if known is None or known[0] != node:
            stored, step = session.load_step(node)
            if stored.parent is None:
                raise InputError("the start has the input poses: run an iteration, and the motion can be estimated")
            _, before = session.load_step(stored.parent)
            known = (node, estimate_motion(session.job_of(stored), step, before))
            _motion_estimates[session] = known
        return known[1]


def motion_plot_data(session: Session, node: str) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """Return the data sets that `plots.motion` draws.

    Parameters
    ----------
    session : session that holds the step
    node : name of the step

    Returns
    -------
    tuple
        Principal motions, map with its surroundings, and mask of the step.

    Raises
    ------
    InputError
        For step 0, whose poses are the input's.
    """
    estimate = motion_estimate_of(session, node)
    (stored, step), (_, start) = session.load_step(node), session.load_step(start_node(session, node))
    job = session.job_of(stored)
    return principal_motions(job, estimate), *map_and_mask_arrays(job, start, step)


def map_and_mask_arrays(job: Job, start: Step, step: Step) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the map of a step with its surroundings, and the mask, both on (z, y, x) in Å from the box centre."""
    mask = mask_dataset(job.mask)["mask"]
    return mask.copy(data=map_with_surroundings(job, start, step).data), mask


def changes_from_search_centres(session: Session) -> xr.Dataset | None:
    """Return how far the particles are from the centres of the next search; None before the first iteration.

    Variables `angle_change` in degrees and `shift_change` in Å, (particle).
    """
    if session.state.node is None:
        return None
    last = session.results()["particles"].to_dataset().isel(iteration=-1)
    if int(last["iteration"]) == 0:
        return None
    spec = session.spec
    names = {"angle_change": spec.recenter_rotations, "shift_change": spec.recenter_shifts}
    return xr.Dataset({name: last[name + "_last" * recentred] for name, recentred in names.items()})


@dataclass(frozen=True)
class MotionWidths:
    """Widths (SDs) of the motion of a body.

    Attributes
    ----------
    sd : per axis, of rotations in degrees and of shifts in Å
    error : standard errors of these two
    undetermined : which of the two, "rotation" or "shift", the poses hardly determine
    rotation_sd_range_deg
        SD of the rotations about the widest and about the narrowest axis, degrees; None unless they differ
        significantly.
    rotation_covariance_deg2 : (3, 3) covariance of the rotations, degree², if `rotation_sd_range_deg` is given
    """

    sd: tuple[float, float]
    error: tuple[float, float]
    undetermined: tuple[str, ...] = ()
    rotation_sd_range_deg: tuple[float, float] | None = None
    rotation_covariance_deg2: Float64 | None = field(default=None, compare=False)

    @property
    def prior_settings(self) -> dict[str, Any]:
        """Fields of the spec for a prior of these widths, to two digits; prior=motion if the width differs by axis."""
        if self.rotation_sd_range_deg:
            return {"prior": "motion"}
        turn, shift = (float(f"{width:.2g}") for width in self.sd)
        return {"prior": "gaussian", "rotation_prior_sd_deg": turn, "shift_prior_sd_A": shift}

    def __str__(self) -> str:
        (turn, shift), (a, b) = self.sd, self.error
        summary = f"The particles move by {turn:.2g} ± {a:.1g}° and {shift:.2g} ± {b:.1g} Å per axis (SD)."
        by_axis = []
        if self.rotation_sd_range_deg:
            widest, narrowest = self.rotation_sd_range_deg
            by_axis = [
                f"Rotations differ by axis, {widest:.2g}° about the widest and {narrowest:.2g}° about the narrowest: "
                "prior=motion accounts for it."
            ]
        return " ".join([summary, *by_axis, *(f"{poorly_determined_note(name)}." for name in self.undetermined)])


def poorly_determined_note(name: str) -> str:
    """Return a warning about a width that the poses hardly determine. name: "rotation" or "shift"."""
    return f"The poses hardly determine the SD of the {name}s: the estimate depends on the SD of the prior"


def current_motion_widths(session: Session) -> MotionWidths | None:
    """Return the motion widths estimated from the present step's poses; None before an iteration."""
    estimate = current_fulcrum_estimate(session)
    return None if estimate is None else motion_widths(estimate)


def motion_widths(estimate: FulcrumEstimate) -> MotionWidths:
    """Convert the widths of an estimate to degrees and Å."""
    sds, _ = estimate.axes
    return MotionWidths(
        (estimate.rotation_sd / DEGREE, estimate.shift_sd_A),
        (estimate.rotation_sd_error / DEGREE, estimate.shift_sd_error_A),
        estimate.undetermined,
        (sds[0] / DEGREE, sds[-1] / DEGREE) if estimate.has_dominant_axis else None,
        estimate.rotation_covariance / DEGREE**2 if estimate.has_dominant_axis else None,
    )


def preview_results(session: Session) -> xr.DataTree | None:
    """Return the results of the last preview, which is a step of a subset of the particles; None before one."""
    state = session.state
    if state.preview is None or state.preview_job is None:
        return None
    return to_tree(state.preview_job, [state.preview])


def start_node(session: Session, node: str) -> str:
    """Return the id of the start that a step descends from."""
    parents = {n.id: n.parent for n in session.state.tree}
    while (parent := parents[node]) is not None:
        node = parent
    return node


def maps_before_and_after(session: Session, node: str) -> tuple[Volume, Volume]:
    """Return the map of the start that a step descends from, and the map of the step with its surroundings."""
    (first, start), (stored, step) = session.load_step(start_node(session, node)), session.load_step(node)
    before, after = session.job_of(first), session.job_of(stored)
    return final_map(before, start), map_with_surroundings(after, start, step)


def local_resolution_of(session: Session, node: str, report: Callable[[str], None]) -> LocalResolution:
    """Estimate the local resolution of a step, once for all interfaces; it takes minutes for a large box.

    report: called with progress as text. Raises InputError if the mask contains no sampling point.
    """
    stored, step = session.load_step(node)
    known = _local_resolutions.setdefault(session, {})
    if node not in known:
        maps = step.half_maps
        mask, workers = session.job_of(stored).mask, len(os.sched_getaffinity(0))
        for event in estimate_local_resolution(maps.first, maps.second, mask, workers=workers):
            if isinstance(event, Progress):
                report(f"local resolution: {event.done} of {event.total} windows")
            else:
                known[node] = event
    if node not in known:
        raise InputError("local resolution: the mask contains no sampling point: use a larger mask")
    report(f"local resolution of iteration {stored.iteration}: median {known[node].median_A:.2f} Å")
    return known[node]
