"""A prior whose widths are learned is as good as the best of fixed ones, without having looked at the truth."""

from pathlib import Path

from lrcore.compute.backend import Backend
from tests.validation.advice_scenarios import world
from tests.validation.judge import print_measurement
from tests.validation.width_grid import ALL_LEARNED, LEARNED, compare_with_grid, hinge_data, rows

GRID = ((0.5, 0.5), (1.0, 1.0), (2.0, 2.0))


def test_a_learned_prior_is_as_good_as_the_best_of_fixed_ones(backend: Backend, tmp_path: Path) -> None:
    """Of those half, as and twice as wide as the motion; `width_grid` has all nine, of more seeds."""
    found = list(rows(world(tmp_path, 21, {"n": 600}, backend), GRID, iterations=5))
    for row in found:
        print_measurement(str(row))
    fixed = {row.name: row for row in found}
    assert fixed["0.5, 0.5"].error_deg > 1.05 * fixed["1, 1"].error_deg, "the widths matter here"
    for name in (LEARNED, ALL_LEARNED):
        ratio, gain = compare_with_grid(found)[name]
        assert ratio < 1.05
        assert gain > -0.01
        assert 0.75 < fixed[name].widths[0] < 1.25


def test_of_a_hinge_a_learned_prior_is_better_than_any_that_is_the_same_along_all_axes(
    backend: Backend, tmp_path: Path
) -> None:
    """A body that turns about one axis, against the fixed prior of its true mean width, the best of nine."""
    found = list(rows(world(tmp_path, 22, {"n": 600, **hinge_data(22)}, backend), ((1.0, 1.0),), iterations=5))
    for row in found:
        print_measurement(str(row))
    for name in (LEARNED, ALL_LEARNED):
        ratio, gain = compare_with_grid(found)[name]
        assert ratio < 0.85
        assert gain > 0.005
