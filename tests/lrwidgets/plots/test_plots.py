"""Figures: every axis has a unit, the numbers on them are those of the results, and what is drawn is where it holds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from scipy.spatial.transform import Rotation

from lrcore.analysis.comparison import compare_steps
from lrcore.errors import InputError
from lrcore.maps.conical_fsc import ConicalFsc, conical_fsc_dataset
from lrcore.results.tree import to_tree
from lrwidgets import plots
from lrwidgets.plots import catalogue
from lrwidgets.plots._style import NARROW_WIDTH_IN
from tests.fakes import PIXEL, make_job, make_step

UNITS = (", Å", ", 1/Å", ", degrees", "particles", "iteration", "correlation", "amplitude")


def made(steps: int, **spec: Any) -> xr.DataTree:
    """Results of so many steps after the start."""
    job = make_job(40, **spec)
    path = [make_step(job)]
    for _ in range(steps):
        path.append(make_step(job, path[-1]))
    return to_tree(job, path)


def slices(tree: xr.DataTree) -> Figure:
    before = plots.filtered_map(tree)
    return plots.slices(before, 2 * before, tree.children["mask"].to_dataset()["mask"])


FIGURES = {
    "fsc": plots.fsc,
    "changes": plots.changes,
    "changes by half": lambda tree: plots.changes(tree, by_half=True),
    "directions": plots.directions,
    "history": plots.history,
    "uncertainty": plots.uncertainty,
    "slices": slices,
    "overview": lambda tree: plots.overview(tree, tree),
}


def words(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_every_axis_has_a_unit(name: str, steps: int, tmp_path: Path) -> None:
    figure = FIGURES[name](made(steps))
    plots.save(figure, tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    for ax in figure.axes:
        if ax.get_label() == "<colorbar>":
            continue
        assert any(unit in ax.get_xlabel() for unit in UNITS), ax.get_xlabel()
        shared = ax.get_shared_y_axes().get_siblings(ax)
        assert any(unit in other.get_ylabel() for other in shared for unit in UNITS)


@pytest.mark.parametrize("name", [name for name in catalogue.FIGURES if name != "Guinier"])  # which has one axis
def test_in_a_side_panel_axes_stand_one_below_the_other(name: str) -> None:
    wide, narrow = catalogue.FIGURES[name][0](made(2)), catalogue.FIGURES[name][0](made(2), narrow=True)
    assert narrow.get_figwidth() <= NARROW_WIDTH_IN
    assert [ax.get_xlabel() for ax in narrow.axes] == [ax.get_xlabel() for ax in wide.axes]
    drawn = [ax for ax in narrow.axes if ax.get_label() != "<colorbar>"]
    assert len({ax.get_subplotspec().colspan.start for ax in drawn}) == 1
    assert all(ax.get_ylabel() for ax in drawn)


def test_fsc_tells_where_each_curve_crosses() -> None:
    tree = made(2)
    frequency = tree["fsc"]["frequency"].values
    tree["fsc"]["masked"].values[-1] = np.linspace(1, 0, len(frequency))
    ax = plots.fsc(tree).axes[0]
    at = [1 / (frequency[-1] * (1 - threshold)) for threshold in (0.143, 0.5)]
    assert f"masked: {at[0]:.2f} / {at[1]:.2f}" in words(ax)


@pytest.mark.parametrize("recentred", [False, True])
def test_prior_and_extent_stand_where_they_hold(recentred: bool) -> None:
    axes = plots.changes(made(2, recenter_rotations=recentred, rotation_extent_deg=12.0)).axes
    bounded = [any(word == "extent 12°" for word in words(ax)) for ax in axes]
    assert bounded == [not recentred, False, recentred, False]
    prior = [any(word.startswith("prior, SD 5°") for word in words(ax)) for ax in axes]
    assert prior == bounded
    assert "from the input pose" in axes[0].get_xlabel()
    assert "since the last iteration (1 to 2)" in axes[2].get_xlabel()


def test_the_prior_counts_all_particles() -> None:
    ax = plots.changes(made(2, rotation_prior_sd_deg=3.0, rotation_extent_deg=30.0)).axes[0]
    curve = next(line for line in ax.lines if str(line.get_label()).startswith("prior"))
    width = ax.patches[0].get_width()
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) / width == pytest.approx(40, rel=0.01)


def test_a_prior_of_motions_is_drawn_as_it_spreads_the_particles() -> None:
    """The curve against draws: turns by their angle, shifts by what is seen of them from all sides."""
    tree = made(2, prior="motion")
    rng = np.random.default_rng(1)
    spread = np.diag([0.12**2, 0.02**2, 0.05**2, 9.0, 1.0, 0.16])
    turn = Rotation.random(rng=3).as_matrix()
    to = np.block([[turn, np.zeros((3, 3))], [np.zeros((3, 3)), turn]])
    spread = to @ spread @ to.T
    tree["state"]["prior_covariance"].values[-1] = spread
    drawn = rng.multivariate_normal(np.zeros(6), spread, 200_000)
    planes = Rotation.random(len(drawn), rng=4).as_matrix()[:, :2]
    lengths = [
        np.degrees(np.linalg.norm(drawn[:, :3], axis=1)),
        np.linalg.norm(np.einsum("nij,nj->ni", planes, drawn[:, 3:]), axis=1),
    ]
    for ax, values, told in zip(plots.changes(tree).axes, lengths, ("1.1, 2.9, 6.9°", "0.4, 1, 3 Å"), strict=False):
        curve = next(line for line in ax.lines if str(line.get_label()) == f"prior, SD {told} along its axes")
        x, y = curve.get_data()
        width = ax.patches[0].get_width()
        expected = np.histogram(values, np.arange(0, x[-1], width))[0] * 40 / len(values)
        got = np.interp(np.arange(len(expected)) * width + width / 2, x, y)
        assert np.abs(got - expected).max() < 0.06 * expected.max()


def test_what_the_extent_stopped_is_within_it() -> None:
    tree = made(2, rotation_extent_deg=12.0)
    tree["particles"]["angle_change"].values[-1, :7] = 12.0
    ax = plots.changes(tree).axes[0]
    bar = next(bar for bar in ax.patches if bar.get_x() + bar.get_width() == pytest.approx(12.0))
    assert bar.get_height() == 7


def test_slices_share_contrast_and_pass_through_the_mask() -> None:
    axes = slices(made(1)).axes
    assert len({ax.images[0].get_clim() for ax in axes}) == 1
    x, y = -0.5 * PIXEL, -0.5 * PIXEL
    left, right, bottom, top = axes[0].images[0].get_extent()
    assert (left, right) == (bottom, top) == (-6.5 * PIXEL, 5.5 * PIXEL)
    assert axes[0].get_xlim()[0] < x < axes[0].get_xlim()[1]
    assert axes[0].get_ylim()[0] < y < axes[0].get_ylim()[1]
    assert axes[0].get_title(loc="left").startswith("before, z = 1 Å")


def test_a_figure_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        plots.save(plots.history(made(1)), tmp_path / "file" / "figure.png")


def test_pyplot_is_never_imported() -> None:
    code = "import sys, lrwidgets.plots; print(sorted({'matplotlib.pyplot', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_local_resolution_is_drawn_inside_the_mask_alone(tmp_path: Path) -> None:
    axis = {name: (np.arange(24) - 12) * 2.0 for name in "zyx"}
    data = np.broadcast_to(4 + axis["x"] / 20, (24, 24, 24))
    mask = np.zeros((24, 24, 24))
    mask[4:20, 4:20, 4:20] = 1
    figure = plots.local_resolution(*(xr.DataArray(array, axis, tuple("zyx")) for array in (data, mask)))
    plots.save(figure, tmp_path / "figure.png", dpi=40)
    shown = figure.axes[0].images[0].get_array()
    assert np.isfinite(shown.filled(np.nan)).sum() == 16 * 16
    assert words(figure.axes[3]) == ["median 3.95 Å"]


def test_the_best_and_the_worst_direction_are_named() -> None:
    frequency = np.arange(9) / 40
    curves = np.stack([np.clip(1 - frequency * slope, 0, 1) for slope in (5, 8, 6)])
    axes = np.eye(3)
    found = ConicalFsc(axes, frequency, curves, np.array([5.8, 9.3, 7.0]), np.array([0.1, 0.06, 0.08]))
    ax = plots.conical(conical_fsc_dataset(found)).axes[0]
    best, worst = words(ax)
    assert best == "best, 5.80 Å along (1.00, 0.00, 0.00)"
    assert worst == "worst, 9.30 Å along (0.00, 1.00, 0.00)"
    assert ax.get_title(loc="left").endswith("0.60")


def test_half_sets_are_drawn_beside_their_sum() -> None:
    ax = plots.changes(made(2), by_half=True).axes[0]
    assert [word for word in words(ax) if word.startswith("half set")] == ["half set 1", "half set 2"]
    bars = sum(bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle))
    assert bars == 40
    halves = [patch.get_xy()[1:-1:2, 1].sum() for patch in ax.patches if isinstance(patch, Polygon)]
    assert halves == [20, 20]


def test_directions_are_those_of_the_poses_and_areas_are_equal() -> None:
    tree = made(1)
    toward = Rotation.random(40_000, random_state=1).as_matrix()
    toward[:20_000, 2] = (0.6, 0.0, 0.8)
    many = tree["particles"].to_dataset().isel(particle=np.zeros(len(toward), int))
    many = many.assign(rotation=many["rotation"].copy(data=np.broadcast_to(toward, (2, *toward.shape))))
    ax = plots.directions(xr.DataTree.from_dict({**tree.to_dict(), "/particles": many})).axes[0]
    counts = ax.collections[0].get_array().reshape(18, 36)
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    assert (row, column) == (16, 18), "rot 0°, cosine of the tilt 0.8"
    counts[row, column] -= 20_000
    assert counts.std() < 1.3 * np.sqrt(counts.mean()), "as even as chance"


def test_guinier_finds_the_falloff_of_the_map() -> None:
    tree, apix, n = made(1), 1.5, 64
    k = np.fft.fftfreq(n, apix)
    squared = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2
    noise = np.fft.fftn(np.random.default_rng(0).normal(0, 1, (n,) * 3))
    data = np.fft.ifftn(noise * np.exp(-100 / 4 * squared)).real.astype(np.float32)
    frequency = np.arange(n // 2 + 1) / (n * apix)
    maps = xr.Dataset({"half_map": (("half", "z", "y", "x"), np.stack([data, data]))})
    curves = xr.Dataset(
        {"corrected": (("iteration", "shell"), np.ones((1, n // 2 + 1)))}, {"frequency": ("shell", frequency)}
    )
    ax = plots.guinier(xr.DataTree.from_dict({**tree.to_dict(), "/volumes": maps, "/fsc": curves})).axes[0]
    fit = next(word for word in words(ax) if word.startswith("B = "))
    assert -103 < float(fit.split()[2]) < -97


def test_two_steps_in_one_figure(tmp_path: Path) -> None:
    job = make_job(40)
    start = make_step(job)
    one = make_step(job, start)
    found = compare_steps(("0000-a", job, start), ("0001-b", job, one))
    figure = plots.compare(found)
    plots.save(figure, tmp_path / "figure.png", dpi=40)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0].startswith("a: 0000-a, z")
    assert titles[3].startswith("b: 0001-b, z")
    assert all(any(unit in ax.get_xlabel() for unit in UNITS) for ax in figure.axes)
