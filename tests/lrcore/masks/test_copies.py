"""Masks and their copies under a point group: overlaps and unions against rot90, subgroups by law."""

import numpy as np
import pytest

from lrcore.imaging.symmetry import symmetry_operators
from lrcore.masks import centre_of_mass, operators_in_place, overlaps_with_copies, sphere_mask, union_of_copies

N, PIXEL = 33, 2.0
GOLDEN = (1 + np.sqrt(5)) / 2


def balls(*points: tuple[float, float, float], radius: float = 4.0) -> np.ndarray:
    """Soft balls at points (x, y, z) in voxels from the box centre."""
    each = [sphere_mask(N, PIXEL, tuple(PIXEL * np.array(p)), radius * PIXEL, 3 * PIXEL) for p in points]
    return np.max(each, axis=0).astype(np.float32)


def copies(mask: np.ndarray) -> list[np.ndarray]:
    """The copies under C4: turns of an odd box about its middle voxel, without any interpolation."""
    return [np.rot90(mask, k, axes=(1, 2)) for k in range(4)]


def test_overlaps_and_union_are_those_of_turned_arrays() -> None:
    mask = balls((7, 1, 2), (3, 8, -4))
    expected = sorted(float((mask * copy).sum() / (mask**2).sum()) for copy in copies(mask))
    operators = symmetry_operators("C4")
    assert sorted(overlaps_with_copies(mask, operators)) == pytest.approx(expected, abs=0.02)
    assert np.abs(union_of_copies(mask, operators) - np.max(copies(mask), axis=0)).max() < 1e-6


@pytest.mark.parametrize("name", ["C2", "C7", "D2", "T", "O", "I"])
def test_a_union_has_the_symmetry(name: str) -> None:
    operators, mask = symmetry_operators(name), balls((7, 5, 3), radius=3.0)
    union = union_of_copies(mask, operators)
    assert np.all(union >= mask)
    assert overlaps_with_copies(union, operators).min() > 0.95
    assert len(operators_in_place(union, operators)) == len(operators)
    assert np.abs(centre_of_mass(union)[:2]).max() < 0.05


@pytest.mark.parametrize(
    ("name", "points", "count"),
    [
        ("C1", [(7, 5, 3)], 1),
        ("C4", [(9, 0, 0)], 1),
        ("C4", [(9, 0, 0), (-9, 0, 0)], 2),
        ("C4", [(9, 0, 0), (0, 9, 0)], 1),
        ("C4", [(0, 0, 9)], 4),
        ("D2", [(9, 3, 0)], 1),
        ("D2", [(9, 3, 4), (-9, 3, -4)], 2),
        ("D2", [(9, 0, 0)], 2),
        ("I", [(9, 3, 1)], 1),
        ("I", [(10 / GOLDEN, 0, 10)], 5),
        ("I", [(0, 0, 0)], 60),
    ],
)
def test_the_subgroup_that_leaves_a_mask_in_place(name: str, points: list, count: int) -> None:
    found = operators_in_place(balls(*points), symmetry_operators(name))
    assert len(found) == count
    assert np.abs(found[0] - np.eye(3)).max() < 1e-12


@pytest.mark.parametrize("n", [32, 33, 34, 39, 41])
def test_a_union_of_every_few_planes_is_that_of_all(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = sphere_mask(n, PIXEL, (12.0, 4.0, 2.0), 8.0, 10.0)
    exact = union_of_copies(mask, symmetry_operators("D2"))
    monkeypatch.setattr("lrcore.masks.copies.MAX_UNION_PER_AXIS", 20)
    coarse = union_of_copies(mask, symmetry_operators("D2"))
    assert np.abs(coarse - exact).max() < 0.25
    assert abs(float((coarse - exact).mean())) < 0.002
    assert np.all(coarse >= mask)


def test_an_empty_mask_is_left_in_place() -> None:
    nothing = np.zeros((N, N, N), np.float32)
    assert len(operators_in_place(nothing, symmetry_operators("D2"))) == 4
    assert not union_of_copies(nothing, symmetry_operators("D2")).any()
