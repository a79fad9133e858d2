"""The poses of the last iteration: how far they moved, how sure they are, from where the particles are seen."""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from lrcore.arrays import Float64
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.plots._style import (
    BINS,
    BLUE,
    GREEN,
    HEADROOM,
    INK,
    ORANGE,
    RED,
    figure_with_axes,
    headline,
    histogram,
    last_iteration,
    legend_above,
    particle_count,
    results_group,
    style_axes,
)

UNITS = {"°": "degrees", " Å": "Å"}
"""Unit as it follows a number → as it labels an axis."""
VIEWS = 64
"""Directions from which a motion is looked at, to see how long it seems."""
TILTS = (0, 30, 60, 90, 120, 150, 180)


def changes(tree: xr.DataTree, by_half: bool = False, narrow: bool = False) -> Figure:
    """Rotation and shift of every particle in the last iteration: from the input pose, and since the last iteration.

    Prior and extent stand where they hold: about the input pose, or about the last one after re-centring. by_half:
    whether the two half sets are drawn as well, as lines. narrow: for a side panel.
    """
    figure, axes = figure_with_axes(4, 9.5, 6.2, narrow, rows=2)
    cases = [(since_last, what) for since_last in (False, True) for what in ("angle", "shift")]
    for ax, (since_last, what) in zip(axes, cases, strict=True):
        draw_change(ax, tree, what, since_last, by_half)
    headline(figure, f"Pose changes of {particle_count(tree)}, iteration {last_iteration(tree)}")
    return figure


def uncertainty(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Standard deviation of every particle's rotation and shift in the last iteration, over the axes' mean square.

    By draws under the other half set's map, where they were made (/uncertainty), otherwise as the search promises.
    narrow: for a side panel.
    """
    figure, axes = figure_with_axes(2, 9.5, 3.6, narrow)
    draw_sd(axes[0], tree, "rotation")
    draw_sd(axes[1], tree, "shift")
    how = "by draws" if "uncertainty" in tree.children else "as searched"
    headline(figure, f"Uncertainty of the poses of {particle_count(tree)}, iteration {last_iteration(tree)}, {how}")
    return figure


class MotionWidthsLike(Protocol):
    """SDs of the motion per axis, of turns in degrees and of shifts in Å, and the SDs of their errors."""

    @property
    def sd(self) -> tuple[float, float]:
        """Of turns, of shifts."""

    @property
    def error(self) -> tuple[float, float]:
        """Of turns, of shifts."""

    @property
    def turns(self) -> Float64 | None:
        """Covariance (3, 3) of the turns, degree², where it is not the same about all axes."""


def prior(
    spec: RefineSpec, moved: xr.Dataset | None = None, learned: MotionWidthsLike | None = None, narrow: bool = False
) -> Figure:
    """Prior and extent of a spec, over how far the particles have moved from where both have their centre.

    moved: (particle), `angle_change` in degrees and `shift_change` in Å from there; None before there is any. learned:
    how far the body moves, with the errors of the poses taken out. narrow: for a side panel.
    """
    figure, axes = figure_with_axes(2, 8.4, 3.0, narrow)
    widths, errors = (learned.sd, learned.error) if learned else ((0.0, 0.0), (0.0, 0.0))
    for ax, what, sd, error in zip(axes, ("angle", "shift"), widths, errors, strict=True):
        search, spread = _search(spec, what), np.diag([sd**2] * 3)
        label = f"learned, SD {sd:.2g} ± {error:.1g}{search.unit} per axis"
        if what == "angle" and learned and learned.turns is not None:
            spread = learned.turns
            label = f"learned, SD {_sds(spread)}° along its axes"
        if sd and spec.prior == "motion":
            search = _with_learned_width(search, spec, sd, spread)
        values = np.zeros(0) if moved is None else moved[f"{what}_change"].values
        edges, count = _edges(values, search.extent), len(values) or 100
        if len(values):
            histogram(ax, values, edges, search.unit, GREEN if search.recentred else BLUE)
        if sd:
            _draw_spread(ax, search, spread, edges, count, color=INK, lw=1.6, ls=":", label=label)
        _draw_search(ax, search, edges, count)
        since = "the last pose" if search.recentred else "the input pose"
        style_axes(
            ax, f"{search.words} from {since}, {UNITS[search.unit]}", "particles" if len(values) else "particles of 100"
        )
        ax.set_xlim(0, edges[-1])
        legend_above(ax)
    return figure


def directions(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """From where the particles are seen in the last iteration, by the map's axes; equal areas, equal solid angles.

    narrow: for a side panel.
    """
    toward = results_group(tree, "particles")["rotation"].isel(iteration=-1).values[:, 2]
    rot, height = np.degrees(np.arctan2(toward[:, 1], toward[:, 0])), np.clip(toward[:, 2], -1, 1)
    figure, (ax,) = figure_with_axes(1, 7.4, 4.0, narrow)
    counts, _, _, image = ax.hist2d(rot, height, bins=(36, 18), range=((-180, 180), (-1, 1)), cmap="viridis")
    figure.colorbar(image, ax=ax, label="particles")
    ax.set_yticks(np.cos(np.radians(TILTS)), [str(tilt) for tilt in TILTS])
    ax.set_xticks(range(-180, 181, 60))
    style_axes(ax, "rot, degrees", "tilt, degrees")
    seen = float((counts > 0).mean())
    headline(
        figure,
        f"Viewing directions of {particle_count(tree)}, iteration {last_iteration(tree)}: {seen:.0%} of all are seen",
    )
    return figure


def draw_change(ax: Axes, tree: xr.DataTree, what: str, since_last: bool, by_half: bool = False) -> None:
    """Histogram of one change in the last iteration. what: angle or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    particles = results_group(tree, "particles").isel(iteration=-1)
    values = particles[f"{what}_change" + "_last" * since_last].values
    search = _search(spec, what, results_group(tree, "state").isel(iteration=-1))
    bounded = since_last == search.recentred
    edges = _edges(values, search.extent if bounded else None)
    histogram(ax, values, edges, search.unit, GREEN if since_last else BLUE)
    if by_half:
        for number, style in ((1, "-"), (2, "--")):
            there, words = values[particles["half"].values == number] * (1 - 1e-9), f"half set {number}"
            ax.hist(there, bins=list(edges), histtype="step", color=INK, ls=style, lw=1.1, label=words)
    if bounded:
        _draw_search(ax, search, edges, len(values))
    now = last_iteration(tree)
    since = "from the input pose"
    if since_last:
        since = f"since the last iteration ({f'{now - 1} to {now}' if now else 'none yet'})"
    style_axes(ax, f"{search.words} {since}, {UNITS[search.unit]}", "particles")
    legend_above(ax)


@dataclass(frozen=True)
class _SearchBounds:
    """What bounds one change. sd: of the prior per axis, None without one. dimensions: of the vector it is long.

    motion: (3, 3) covariance along the axes of the map, where it is not the same along all of them.
    """

    words: str
    sd: float | None
    extent: float
    unit: str
    recentred: bool
    dimensions: int
    motion: Float64 | None = None

    @property
    def prior_words(self) -> str:
        """How wide the prior is."""
        if self.motion is None:
            return f"prior, SD {self.sd:g}{self.unit} per axis"
        return f"prior, SD {_sds(self.motion)}{self.unit} along its axes"


def _search(spec: RefineSpec, what: str, state: xr.Dataset | None = None) -> _SearchBounds:
    """What a spec asks for; state: of a step, which knows what its search held in the end."""
    if what == "angle":
        sd, extent, name = spec.rotation_prior_sd_deg, spec.rotation_limit_deg, "rotation"
        rest = ("°", spec.recenter_rotations, 3)
    else:
        sd, extent, name = spec.shift_prior_sd_A, spec.shift_limit_A, "shift"
        rest = (" Å", spec.recenter_shifts, 2)
    if state is not None and name + "_extent" in state and np.isfinite(state[name + "_extent"]):
        extent, sd = (float(f"{float(state[name + kind]):.3g}") for kind in ("_extent", "_prior_sd"))
    return _SearchBounds(name, None if spec.prior == "none" else sd, extent, *rest, _motion(what, state))


def _with_learned_width(search: _SearchBounds, spec: RefineSpec, sd: float, spread: Float64) -> _SearchBounds:
    """The search of a prior that is learned: as wide as the motion is now, and its extent, if that is to follow."""
    given = spec.rotation_extent_deg if search.unit == "°" else spec.shift_extent_A
    widest = float(np.sqrt(np.linalg.eigvalsh(spread)[-1]))
    extent = search.extent if given else max(search.extent, float(f"{3 * widest:.3g}"))
    uneven = not np.allclose(spread, np.diag([sd**2] * 3))
    return replace(search, sd=float(f"{sd:.2g}"), extent=extent, motion=spread if uneven else None)


def _sds(covariance: Float64) -> str:
    """SDs along the axes of a covariance (3, 3)."""
    return ", ".join(f"{sd:.2g}" for sd in np.sqrt(np.linalg.eigvalsh(covariance)))


def _motion(what: str, state: xr.Dataset | None) -> Float64 | None:
    """Covariance (3, 3), degree² or Å², of the turns or the shifts that a learned prior is for."""
    if state is None or "prior_covariance" not in state or np.isnan(state["prior_covariance"]).any():
        return None
    whole = np.asarray(state["prior_covariance"].values, dtype=np.float64)
    return np.degrees(np.degrees(whole[:3, :3])) if what == "angle" else whole[3:, 3:]


def _draw_search(ax: Axes, search: _SearchBounds, edges: Float64, count: int) -> None:
    """Prior, as so many particles would be spread by it, and extent."""
    if search.sd is not None:
        spread = np.diag([search.sd**2] * 3) if search.motion is None else search.motion
        _draw_spread(ax, search, spread, edges, count, color=ORANGE, lw=2, label=search.prior_words)
    words = f"extent {search.extent:g}{search.unit}"
    ax.axvline(search.extent, 0, 1 / HEADROOM, color=RED, lw=1.6, ls="--", label=words)


def _draw_spread(ax: Axes, search: _SearchBounds, spread: Float64, edges: Float64, count: int, **style: Any) -> None:
    """How many particles a Gaussian of this covariance (3, 3) puts into each bar."""
    x = np.linspace(0, edges[-1], 300)
    ax.plot(x, count * edges[1] * _length_density(x, spread, search.dimensions), **style)


def draw_sd(ax: Axes, tree: xr.DataTree, what: str) -> None:
    """Histogram of one standard deviation in the last iteration. what: rotation or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    drawn = tree.children.get("uncertainty")
    told = results_group(tree, "particles").isel(iteration=-1) if drawn is None else drawn.to_dataset()
    each = told[f"{what}_sd"].values
    search = _search(spec, "angle" if what == "rotation" else what, results_group(tree, "state").isel(iteration=-1))
    prior, unit = search.sd, search.unit
    values = np.sqrt((each**2).mean(axis=-1))
    low, high = np.quantile(values, (0.01, 0.99))
    histogram(ax, values, np.linspace(0.8 * low, 1.2 * high or 1.0, BINS), f"{unit} per axis", BLUE)
    if prior is not None:
        where = "" if prior < ax.get_xlim()[1] else ", beyond"
        ax.axvline(prior, 0, 1 / HEADROOM, color=ORANGE, lw=2, label=f"prior {prior:g}{unit}{where}")
    style_axes(ax, f"uncertainty (SD) of the {what}, {UNITS[unit]}", "particles")
    legend_above(ax)


def _edges(values: Float64, extent: float | None) -> Float64:
    """Edges of bars from 0 to past most of the values and the extent, which is one of them."""
    most = 1.15 * float(np.quantile(values, 0.99)) if len(values) else 0.0
    width = (extent or most or 1.0) / BINS
    count = max(BINS + 3, math.ceil(most / width) + 1)
    return np.arange(count, dtype=np.float64) * width


def _length_density(x: Float64, spread: Float64, dimensions: int) -> Float64:
    """Density of the length of a Gaussian vector of covariance (3, 3), or of what planes show of it from all sides.

    The mean over the directions that it may have.
    """
    seen = Rotation.random(VIEWS, rng=0).as_matrix()[:, :dimensions]
    of_each = seen @ spread @ seen.transpose(0, 2, 1)
    u = Rotation.random(VIEWS, rng=1).as_matrix()[:, 0, :dimensions]
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    squared = np.einsum("dj,vjk,dk->vd", u, np.linalg.inv(of_each), u).ravel()
    height = np.repeat(np.linalg.det(of_each) ** -0.5, len(u))
    around = 4 * math.pi if dimensions == 3 else 2 * math.pi
    density = around * (2 * math.pi) ** (-0.5 * dimensions) * x ** (dimensions - 1)
    return np.asarray(density * (np.exp(-0.5 * np.outer(x**2, squared)) @ height) / len(squared), dtype=np.float64)
