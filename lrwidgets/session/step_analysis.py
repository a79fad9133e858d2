"""What the present step of a session has for a face to show: its map, how far particles moved, and about what."""

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
from lrcore.maps.local_resolution import LocalResolution, local_resolution
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Progress, Step, Volume
from lrcore.refinement.density import final_map, map_with_surroundings
from lrcore.refinement.job import Job
from lrcore.results.tree import mask_dataset
from lrcore.units import DEGREE
from lrwidgets.session.session import Session

_lock = threading.Lock()
_local: "WeakKeyDictionary[Session, dict[str, LocalResolution]]" = WeakKeyDictionary()
_estimates: "WeakKeyDictionary[Session, tuple[str, MotionEstimate]]" = WeakKeyDictionary()


def current_map(session: Session) -> Volume | None:
    """The map of the present step, or of the input: the mean of the half maps; None before there are any."""
    halves = session.load_step()[1].half_maps if session.state.node else session.job.half_maps
    if halves is None:
        return None
    first, second = halves.first, halves.second
    return Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A)


def current_fulcrum_estimate(session: Session) -> FulcrumEstimate | None:
    """Where the body turns and how far, as the poses of the present step tell; None before an iteration."""
    path = session.path()
    return None if len(path) < 2 else motion_estimate_of(session, path[-1].id).overall


def motion_estimate_of(session: Session, node: str) -> MotionEstimate:
    """The motion that a step's poses tell. It takes seconds, so that the last one is kept for all faces that ask.

    Raises InputError for a start, whose poses are the input's.
    """
    with _lock:
        known = _estimates.get(session)
        if known is None or known[0] != node:
            found, step = session.load_step(node)
            if found.parent is None:
                raise InputError(
                    "the start has the poses of the input: run an iteration, and its poses tell of a motion"
                )
            _, before = session.load_step(found.parent)
            known = (node, estimate_motion(session.job_of(found), step, before))
            _estimates[session] = known
        return known[1]


def motion_plot_data(session: Session, node: str) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """What `plots.motion` draws of a step: its principal motions, the body amid the rest of the particle, the mask.

    Raises InputError for a start, whose poses are the input's.
    """
    estimated = motion_estimate_of(session, node)
    (found, step), (_, start) = session.load_step(node), session.load_step(start_node(session, node))
    job = session.job_of(found)
    return principal_motions(job, estimated), *map_and_mask_arrays(job, start, step)


def map_and_mask_arrays(job: Job, start: Step, step: Step) -> tuple[xr.DataArray, xr.DataArray]:
    """The map of a step amid what lies outside its mask, and the mask, on (z, y, x) in Å about the box centre."""
    mask = mask_dataset(job.mask)["mask"]
    return mask.copy(data=map_with_surroundings(job, start, step).data), mask


def changes_from_search_centres(session: Session) -> xr.Dataset | None:
    """How far the particles are from the centres of the next search; None before the first iteration."""
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
    """SDs of the motion per axis, of turns in degrees and of shifts in Å, and the SDs of their errors.

    untold: which of the two, "rotation" or "shift", the poses hardly tell. axes: in degrees, about the widest axis of
    the turns and about the narrowest, where these are not the same beyond doubt. turns: (3, 3) their covariance then.
    """

    sd: tuple[float, float]
    error: tuple[float, float]
    undetermined: tuple[str, ...] = ()
    axes: tuple[float, float] | None = None
    turns: Float64 | None = field(default=None, compare=False)

    @property
    def prior_settings(self) -> dict[str, Any]:
        """Of a prior as wide as that, to two digits: they mean no more. One that differs by axis is learned anew."""
        if self.axes:
            return {"prior": "motion"}
        turn, shift = (float(f"{width:.2g}") for width in self.sd)
        return {"prior": "gaussian", "rotation_prior_sd_deg": turn, "shift_prior_sd_A": shift}

    def __str__(self) -> str:
        (turn, shift), (a, b) = self.sd, self.error
        words = f"The particles move by {turn:.2g} ± {a:.1g}° and {shift:.2g} ± {b:.1g} Å per axis (SD)."
        shape = []
        if self.axes:
            most, least = self.axes
            shape = [f"They turn by {most:.2g}° about one axis and by {least:.2g}° about another: prior motion knows."]
        return " ".join([words, *shape, *(f"{poorly_determined_note(name)}." for name in self.undetermined)])


def poorly_determined_note(name: str) -> str:
    """What to know of a width that the poses hardly tell. name: "rotation" or "shift"."""
    return f"The poses hardly tell how wide the {name}s are: that width leans on the one the prior had"


def current_motion_widths(session: Session) -> MotionWidths | None:
    """How far the body moves, as the present step's poses tell; None before an iteration."""
    found = current_fulcrum_estimate(session)
    return None if found is None else motion_widths(found)


def motion_widths(found: FulcrumEstimate) -> MotionWidths:
    """The widths of a motion in the units that people use."""
    sds, _ = found.axes
    return MotionWidths(
        (found.rotation_sd / DEGREE, found.shift_sd_A),
        (found.rotation_sd_error / DEGREE, found.shift_sd_error_A),
        found.undetermined,
        (sds[0] / DEGREE, sds[-1] / DEGREE) if found.has_dominant_axis else None,
        found.rotation_covariance / DEGREE**2 if found.has_dominant_axis else None,
    )


def start_node(session: Session, node: str) -> str:
    """The start of the path to a step."""
    parents = {n.id: n.parent for n in session.state.tree}
    while (above := parents[node]) is not None:
        node = above
    return node


def maps_before_and_after(session: Session, node: str) -> tuple[Volume, Volume]:
    """The map at the start of the path to a step, and the step's, amid what lies outside its mask."""
    (first, start), (found, step) = session.load_step(start_node(session, node)), session.load_step(node)
    before, after = session.job_of(first), session.job_of(found)
    return final_map(before, start), map_with_surroundings(after, start, step)


def local_resolution_of(session: Session, node: str, tell: Callable[[str], None]) -> LocalResolution:
    """The local resolution of a step, in minutes for a large box; worked out once for all faces that ask.

    tell: told how far it is. Raises InputError if the mask holds no point to look at.
    """
    found, step = session.load_step(node)
    known = _local.setdefault(session, {})
    if node not in known:
        maps = step.half_maps
        mask, workers = session.job_of(found).mask, len(os.sched_getaffinity(0))
        for event in local_resolution(maps.first, maps.second, mask, workers=workers):
            if isinstance(event, Progress):
                tell(f"local resolution: {event.done} of {event.total} windows")
            else:
                known[node] = event
    if node not in known:
        raise InputError("local resolution: the mask holds no point to look at")
    tell(f"local resolution of iteration {found.iteration}: median {known[node].median_A:.2f} Å")
    return known[node]
