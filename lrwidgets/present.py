"""What the present step of a session has for a face to show: its map, how far particles moved, and about what."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import xarray as xr

from lrcore.errors import InputError
from lrcore.estimate import Estimate, estimate, principal_motions
from lrcore.locres import LocalResolution, local_resolution
from lrcore.motion import Hinge
from lrcore.records import Float64, Progress, Step, Volume
from lrcore.refine import Job, final_map, whole_map
from lrcore.results import mask_dataset
from lrcore.units import DEGREE
from lrwidgets.session import Session
from lrwidgets.swing import Swing, swing

_lock = threading.Lock()
_local: "WeakKeyDictionary[Session, dict[str, LocalResolution]]" = WeakKeyDictionary()
_estimates: "WeakKeyDictionary[Session, tuple[str, Estimate]]" = WeakKeyDictionary()


def map_of(session: Session) -> Volume | None:
    """The map of the present step, or of the input: the mean of the half maps; None before there are any."""
    halves = session.load_step()[1].half_maps if session.state.node else session.job.half_maps
    if halves is None:
        return None
    first, second = halves.first, halves.second
    return Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A)


def hinge_of(session: Session) -> Hinge | None:
    """Where the body turns and how far, as the poses of the present step tell; None before an iteration."""
    path = session.path()
    return None if len(path) < 2 else estimate_of(session, path[-1].id).all


def estimate_of(session: Session, node: str) -> Estimate:
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
            known = (node, estimate(session.job_of(found), step, before))
            _estimates[session] = known
        return known[1]


def motion_of(session: Session, node: str) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """What `plots.motion` draws of a step: its principal motions, the body amid the rest of the particle, the mask.

    Raises InputError for a start, whose poses are the input's.
    """
    estimated = estimate_of(session, node)
    (found, step), (_, start) = session.load_step(node), session.load_step(start_of(session, node))
    job = session.job_of(found)
    return principal_motions(job, estimated), *amid(job, start, step)


def swing_of(session: Session, node: str, number: int) -> Swing:
    """The body of a step, moved along a principal motion, as surfaces. Raises InputError as `motion_of`, `swing` do."""
    motions, whole, mask = motion_of(session, node)
    return swing(motions, number, Volume(whole.values, session.job.particles.pixel_size_A), mask.values)


def amid(job: Job, start: Step, step: Step) -> tuple[xr.DataArray, xr.DataArray]:
    """The map of a step amid what lies outside its mask, and the mask, on (z, y, x) in Å about the box centre."""
    mask = mask_dataset(job.mask)["mask"]
    return mask.copy(data=whole_map(job, start, step).data), mask


def moved(session: Session) -> xr.Dataset | None:
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
class Widths:
    """SDs of the motion per axis, of turns in degrees and of shifts in Å, and the SDs of their errors.

    untold: which of the two, "rotation" or "shift", the poses hardly tell. axes: in degrees, about the widest axis of
    the turns and about the narrowest, where these are not the same beyond doubt. turns: (3, 3) their covariance then.
    """

    sd: tuple[float, float]
    error: tuple[float, float]
    untold: tuple[str, ...] = ()
    axes: tuple[float, float] | None = None
    turns: Float64 | None = field(default=None, compare=False)

    @property
    def settings(self) -> dict[str, Any]:
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
        return " ".join([words, *shape, *(f"{hardly_told(name)}." for name in self.untold)])


def hardly_told(name: str) -> str:
    """What to know of a width that the poses hardly tell. name: "rotation" or "shift"."""
    return f"The poses hardly tell how wide the {name}s are: that width leans on the one the prior had"


def learned(session: Session) -> Widths | None:
    """How far the body moves, as the present step's poses tell; None before an iteration."""
    found = hinge_of(session)
    return None if found is None else widths_of(found)


def widths_of(found: Hinge) -> Widths:
    """The widths of a motion in the units that people use."""
    sds, _ = found.axes
    return Widths(
        (found.rotation_sd / DEGREE, found.shift_sd_A),
        (found.rotation_sd_error / DEGREE, found.shift_sd_error_A),
        found.untold,
        (sds[0] / DEGREE, sds[-1] / DEGREE) if found.one_axis else None,
        found.turns / DEGREE**2 if found.one_axis else None,
    )


def start_of(session: Session, node: str) -> str:
    """The start of the path to a step."""
    parents = {n.id: n.parent for n in session.state.tree}
    while (above := parents[node]) is not None:
        node = above
    return node


def before_and_after(session: Session, node: str) -> tuple[Volume, Volume]:
    """The map at the start of the path to a step, and the step's, amid what lies outside its mask."""
    (first, start), (found, step) = session.load_step(start_of(session, node)), session.load_step(node)
    before, after = session.job_of(first), session.job_of(found)
    return final_map(before, start), whole_map(after, start, step)


def local_of(session: Session, node: str, tell: Callable[[str], None]) -> LocalResolution:
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
