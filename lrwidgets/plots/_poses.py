"""Draw the poses of the last iteration: changes, uncertainty, priors and viewing directions."""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
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
    histogram,
    last_iteration,
    legend_above,
    particle_count,
    results_group,
    set_figure_title,
    style_axes,
)

AXIS_UNITS = {"°": "degrees", " Å": "Å"}
"""Unit as it follows a number → unit in an axis label."""
AVERAGED_DIRECTIONS = 64
"""Viewing directions over which the projected length of a motion is averaged."""
TILT_TICKS_DEG = (0, 30, 60, 90, 120, 150, 180)


def changes(tree: xr.DataTree, by_half: bool = False, narrow: bool = False) -> Figure:
    """Draw histograms of the pose changes in the last iteration, from the input pose and since the last iteration.

    Prior and extent are drawn where they apply: for changes from the input pose or, with re-centring, since the last
    iteration.

    Parameters
    ----------
    tree : results, as `Session.results` returns them
    by_half : also draw the histograms of the two half sets, as lines
    narrow : draw for a side panel

    Returns
    -------
    Figure
        Rotation changes in degrees, shift changes of the fulcrum in Å.
    """
    figure, axes = figure_with_axes(4, 9.5, 6.2, narrow, rows=2)
    cases = [(since_last, what) for since_last in (False, True) for what in ("angle", "shift")]
    for ax, (since_last, what) in zip(axes, cases, strict=True):
        draw_change(ax, tree, what, since_last, by_half)
    set_figure_title(figure, f"Pose changes of {particle_count(tree)}, iteration {last_iteration(tree)}")
    return figure


def uncertainty(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Draw histograms of the posterior SD of rotation and shift in the last iteration, root mean square over the axes.

    The SDs are those of the group /uncertainty if it has been computed (sampled under the other half set's map),
    otherwise those of the search, which are too small.

    Parameters
    ----------
    tree, narrow : see `lrwidgets.plots.fsc`

    Returns
    -------
    SD of the rotation in degrees and SD of the shift in Å, both per axis.
    """
    figure, axes = figure_with_axes(2, 9.5, 3.6, narrow)
    draw_sd(axes[0], tree, "rotation")
    draw_sd(axes[1], tree, "shift")
    source = "sampled from the posterior" if "uncertainty" in tree.children else "from the search"
    set_figure_title(figure, f"Pose uncertainty of {particle_count(tree)}, iteration {last_iteration(tree)}, {source}")
    return figure


def presence(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Draw the evidence of the body in the images, and the share of the images that hold it, by iteration.

    Evidence is against no density, under the map of the other half set: above 0, the body explains the image better.

    Parameters
    ----------
    tree, narrow : see `lrwidgets.plots.fsc`

    Returns
    -------
    Log evidence of each image in the last iteration, and mean probability of presence by iteration.
    """
    figure, axes = figure_with_axes(2, 9.5, 3.6, narrow)
    found = results_group(tree, "particles").isel(iteration=-1)
    evidence, present = found["evidence"].values, found["presence"].values > 0.5
    low, high = np.quantile(evidence, (0.005, 0.995))
    edges = np.linspace(low, max(high, low + 1.0), BINS)
    for rows, colour, label in ((present, BLUE, "body in the image"), (~present, ORANGE, "no body")):
        axes[0].hist(evidence[rows], bins=list(edges), color=colour, alpha=0.75, label=f"{label}: {rows.sum():,}")
    axes[0].axvline(0, color=INK, lw=1)
    style_axes(axes[0], "log evidence of the body against no density", "particles")
    legend_above(axes[0])
    history = results_group(tree, "history")
    axes[1].plot(history["iteration"], 100 * history["present_share"], "o-", color=BLUE)
    axes[1].set_ylim(0, 105)
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    style_axes(axes[1], "iteration", "particles with the body, %")
    set_figure_title(figure, f"Presence of the body in {particle_count(tree)}, iteration {last_iteration(tree)}")
    return figure


class MotionWidthsLike(Protocol):
    """Widths of a motion, as `lrwidgets.session.step_analysis.MotionWidths` has them."""

    @property
    def sd(self) -> tuple[float, float]:
        """SDs per axis, of rotations in degrees and of shifts in Å."""

    @property
    def error(self) -> tuple[float, float]:
        """Standard errors of these two."""

    @property
    def rotation_covariance_deg2(self) -> Float64 | None:
        """Covariance (3, 3) of the rotations, degree²; None if it is the same about all axes."""


def prior(
    spec: RefineSpec,
    pose_changes: xr.Dataset | None = None,
    estimate: MotionWidthsLike | None = None,
    narrow: bool = False,
) -> Figure:
    """Draw the pose prior and the search extent of a spec over the pose changes from the centre of the search.

    Parameters
    ----------
    spec : parameters of the next iteration
    pose_changes
        Changes from the search centre, (particle): `angle_change` in degrees, `shift_change` in Å; None before the
        first iteration.
    estimate : estimated motion widths, without the errors of the poses; None if there is no estimate
    narrow : draw for a side panel

    Returns
    -------
    Figure
        Rotations in degrees, shifts in Å.
    """
    figure, axes = figure_with_axes(2, 8.4, 3.0, narrow)
    widths, errors = (estimate.sd, estimate.error) if estimate else ((0.0, 0.0), (0.0, 0.0))
    for ax, what, sd, error in zip(axes, ("angle", "shift"), widths, errors, strict=True):
        search, spread = _search(spec, what), np.diag([sd**2] * 3)
        label = f"motion estimate, SD {sd:.2g} ± {error:.1g}{search.unit} per axis"
        if what == "angle" and estimate and estimate.rotation_covariance_deg2 is not None:
            spread = estimate.rotation_covariance_deg2
            label = f"motion estimate, SD {_sds(spread)}° along its axes"
        if sd and spec.prior == "motion":
            search = _with_learned_width(search, spec, sd, spread)
        values = np.zeros(0) if pose_changes is None else pose_changes[f"{what}_change"].values
        edges, count = _edges(values, search.extent), len(values) or 100
        if len(values):
            histogram(ax, values, edges, search.unit, GREEN if search.recentred else BLUE)
        if sd:
            _draw_spread(ax, search, spread, edges, count, color=INK, lw=1.6, ls=":", label=label)
        _draw_search(ax, search, edges, count)
        centre = "the last pose" if search.recentred else "the input pose"
        style_axes(
            ax,
            f"{search.quantity} from {centre}, {AXIS_UNITS[search.unit]}",
            "particles" if len(values) else "particles (of 100)",
        )
        ax.set_xlim(0, edges[-1])
        legend_above(ax)
    return figure


def directions(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Draw a histogram of the viewing directions in the last iteration; equal areas are equal solid angles.

    Parameters
    ----------
    tree, narrow : see `lrwidgets.plots.fsc`

    Returns
    -------
    Number of particles over rot and tilt (RELION's angles) in degrees, in the frame of the map.
    """
    view = results_group(tree, "particles")["rotation"].isel(iteration=-1).values[:, 2]
    rot, cos_tilt = np.degrees(np.arctan2(view[:, 1], view[:, 0])), np.clip(view[:, 2], -1, 1)
    figure, (ax,) = figure_with_axes(1, 7.4, 4.0, narrow)
    counts, _, _, image = ax.hist2d(rot, cos_tilt, bins=(36, 18), range=((-180, 180), (-1, 1)), cmap="viridis")
    figure.colorbar(image, ax=ax, label="particles")
    ax.set_yticks(np.cos(np.radians(TILT_TICKS_DEG)), [str(tilt) for tilt in TILT_TICKS_DEG])
    ax.set_xticks(range(-180, 181, 60))
    style_axes(ax, "rot, degrees", "tilt, degrees")
    covered = float((counts > 0).mean())
    set_figure_title(
        figure,
        f"Viewing directions of {particle_count(tree)}, iteration {last_iteration(tree)}: {covered:.0%} of all covered",
    )
    return figure


def draw_change(ax: Axes, tree: xr.DataTree, what: str, since_last: bool, by_half: bool = False) -> None:
    """Draw the histogram of one pose change in the last iteration. what: angle or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    particles = results_group(tree, "particles").isel(iteration=-1)
    values = particles[f"{what}_change" + "_last" * since_last].values
    search = _search(spec, what, results_group(tree, "state").isel(iteration=-1))
    bounded = since_last == search.recentred
    edges = _edges(values, search.extent if bounded else None)
    histogram(ax, values, edges, search.unit, GREEN if since_last else BLUE)
    if by_half:
        for number, style in ((1, "-"), (2, "--")):
            subset, label = values[particles["half"].values == number] * (1 - 1e-9), f"half set {number}"
            ax.hist(subset, bins=list(edges), histtype="step", color=INK, ls=style, lw=1.1, label=label)
    if bounded:
        _draw_search(ax, search, edges, len(values))
    now = last_iteration(tree)
    since = "from the input pose"
    if since_last:
        since = f"since the last iteration ({f'{now - 1} to {now}' if now else 'none yet'})"
    style_axes(ax, f"{search.quantity} {since}, {AXIS_UNITS[search.unit]}", "particles")
    legend_above(ax)


@dataclass(frozen=True)
class _SearchBounds:
    """Prior and extent of one pose change.

    Attributes
    ----------
    quantity : "rotation" or "shift", for labels
    sd : SD of the prior per axis; None without a prior
    extent : hard limit of the search
    unit : as it follows a number
    recentred : True if the search is centred on the last pose, False if on the input pose
    dimensions : dimension of the vector whose length is the change
    motion : (3, 3) covariance of the prior along the axes of the map; None if it is isotropic
    """

    quantity: str
    sd: float | None
    extent: float
    unit: str
    recentred: bool
    dimensions: int
    motion: Float64 | None = None

    @property
    def prior_label(self) -> str:
        """Width of the prior, for the legend."""
        if self.motion is None:
            return f"prior, SD {self.sd:g}{self.unit} per axis"
        return f"prior, SD {_sds(self.motion)}{self.unit} along its axes"


def _search(spec: RefineSpec, what: str, state: xr.Dataset | None = None) -> _SearchBounds:
    """Return the bounds that a spec sets. state: of a step, with the values that its search used."""
    if what == "angle":
        sd, extent, name = spec.rotation_prior_sd_deg, spec.rotation_limit_deg, "rotation"
        unit_and_centre = ("°", spec.recenter_rotations, 3)
    else:
        sd, extent, name = spec.shift_prior_sd_A, spec.shift_limit_A, "shift"
        unit_and_centre = (" Å", spec.recenter_shifts, 2)
    if state is not None and name + "_extent" in state and np.isfinite(state[name + "_extent"]):
        extent, sd = (float(f"{float(state[name + kind]):.3g}") for kind in ("_extent", "_prior_sd"))
    return _SearchBounds(name, None if spec.prior == "none" else sd, extent, *unit_and_centre, _motion(what, state))


def _with_learned_width(search: _SearchBounds, spec: RefineSpec, sd: float, spread: Float64) -> _SearchBounds:
    """Return the bounds with prior=motion: the SD of the estimated motion and, unless it is set, the extent from it."""
    set_extent = spec.rotation_extent_deg if search.unit == "°" else spec.shift_extent_A
    widest = float(np.sqrt(np.linalg.eigvalsh(spread)[-1]))
    extent = search.extent if set_extent else max(search.extent, float(f"{3 * widest:.3g}"))
    anisotropic = not np.allclose(spread, np.diag([sd**2] * 3))
    return replace(search, sd=float(f"{sd:.2g}"), extent=extent, motion=spread if anisotropic else None)


def _sds(covariance: Float64) -> str:
    """Format the SDs along the principal axes of a covariance (3, 3)."""
    return ", ".join(f"{sd:.2g}" for sd in np.sqrt(np.linalg.eigvalsh(covariance)))


def _motion(what: str, state: xr.Dataset | None) -> Float64 | None:
    """Return the covariance (3, 3) of a motion prior, degree² of rotations or Å² of shifts; None without one."""
    if state is None or "prior_covariance" not in state or np.isnan(state["prior_covariance"]).any():
        return None
    covariance = np.asarray(state["prior_covariance"].values, dtype=np.float64)
    return np.degrees(np.degrees(covariance[:3, :3])) if what == "angle" else covariance[3:, 3:]


def _draw_search(ax: Axes, search: _SearchBounds, edges: Float64, count: int) -> None:
    """Draw the distribution of `count` particles under the prior, and the extent."""
    if search.sd is not None:
        spread = np.diag([search.sd**2] * 3) if search.motion is None else search.motion
        _draw_spread(ax, search, spread, edges, count, color=ORANGE, lw=2, label=search.prior_label)
    label = f"extent {search.extent:g}{search.unit}"
    ax.axvline(search.extent, 0, 1 / HEADROOM, color=RED, lw=1.6, ls="--", label=label)


def _draw_spread(ax: Axes, search: _SearchBounds, spread: Float64, edges: Float64, count: int, **style: Any) -> None:
    """Draw the number of particles per bar under a Gaussian of covariance (3, 3)."""
    x = np.linspace(0, edges[-1], 300)
    ax.plot(x, count * edges[1] * _length_density(x, spread, search.dimensions), **style)


def draw_sd(ax: Axes, tree: xr.DataTree, what: str) -> None:
    """Draw the histogram of one posterior SD in the last iteration. what: rotation or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    sampled = tree.children.get("uncertainty")
    source = results_group(tree, "particles").isel(iteration=-1) if sampled is None else sampled.to_dataset()
    by_axis = source[f"{what}_sd"].values
    search = _search(spec, "angle" if what == "rotation" else what, results_group(tree, "state").isel(iteration=-1))
    prior, unit = search.sd, search.unit
    values = np.sqrt((by_axis**2).mean(axis=-1))
    low, high = np.quantile(values, (0.01, 0.99))
    histogram(ax, values, np.linspace(0.8 * low, 1.2 * high or 1.0, BINS), f"{unit} per axis", BLUE)
    if prior is not None:
        note = "" if prior < ax.get_xlim()[1] else " (outside)"
        ax.axvline(prior, 0, 1 / HEADROOM, color=ORANGE, lw=2, label=f"prior, SD {prior:g}{unit}{note}")
    style_axes(ax, f"posterior SD of the {what}, {AXIS_UNITS[unit]}", "particles")
    legend_above(ax)


def _edges(values: Float64, extent: float | None) -> Float64:
    """Return bin edges from 0 to above the 99 % quantile and the extent; the extent is an edge."""
    upper = 1.15 * float(np.quantile(values, 0.99)) if len(values) else 0.0
    width = (extent or upper or 1.0) / BINS
    count = max(BINS + 3, math.ceil(upper / width) + 1)
    return np.arange(count, dtype=np.float64) * width


def _length_density(x: Float64, spread: Float64, dimensions: int) -> Float64:
    """Return the probability density of the length x of a Gaussian vector of covariance (3, 3).

    dimensions: 3, or 2 for its projection onto planes, averaged over VIEWS orientations. The density of the length is
    the density of the vector, averaged over VIEWS directions u, times the area of the sphere (circle) of that radius.
    """
    projection = Rotation.random(AVERAGED_DIRECTIONS, rng=0).as_matrix()[:, :dimensions]
    projected = projection @ spread @ projection.transpose(0, 2, 1)
    u = Rotation.random(AVERAGED_DIRECTIONS, rng=1).as_matrix()[:, 0, :dimensions]
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    squared = np.einsum("dj,vjk,dk->vd", u, np.linalg.inv(projected), u).ravel()
    height = np.repeat(np.linalg.det(projected) ** -0.5, len(u))
    sphere_area = 4 * math.pi if dimensions == 3 else 2 * math.pi
    density = sphere_area * (2 * math.pi) ** (-0.5 * dimensions) * x ** (dimensions - 1)
    return np.asarray(density * (np.exp(-0.5 * np.outer(x**2, squared)) @ height) / len(squared), dtype=np.float64)
