"""Point groups: they are groups, with their axes where the docstring says, and what they find suspicious."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lrcore.errors import InputError
from lrcore.imaging.symmetry import (
    canonical_group_name,
    largest_subgroup,
    off_axis_A,
    symmetry_operators,
    symmetry_warnings,
)
from lrcore.refinement.parameters import RefineSpec

ORDER = {"C1": 1, "C2": 2, "C7": 7, "C12": 12, "D1": 2, "D2": 4, "D7": 14, "T": 12, "O": 24}
ORDER |= dict.fromkeys(("I", "I1", "I2", "I3", "I4"), 60)


def has_axis(name: str, axis: tuple[float, float, float], fold: int) -> bool:
    """Whether a turn by 1 / fold about the axis is in the group."""
    vector = np.array(axis) / np.linalg.norm(axis)
    turn = Rotation.from_rotvec(2 * np.pi / fold * vector).as_matrix()
    return bool(np.abs(symmetry_operators(name) - turn).max(axis=(1, 2)).min() < 1e-9)


@pytest.mark.parametrize("name", ORDER)
def test_it_is_a_group_of_rotations(name: str) -> None:
    group = symmetry_operators(name)
    assert group.shape == (ORDER[name], 3, 3)
    assert np.abs(group[0] - np.eye(3)).max() < 1e-14
    assert np.abs(group @ group.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    assert np.linalg.det(group) == pytest.approx(np.ones(len(group)))
    products = np.einsum("aij,bjk->abik", group, group).reshape(-1, 1, 3, 3)
    near = np.abs(products - group).max(axis=(2, 3)).argmin(axis=1).reshape(len(group), -1)
    off = np.abs(products[:, 0] - group[near.ravel()]).max()
    assert off < 1e-12
    assert all(len(set(row)) == len(group) for row in near.tolist())


GOLDEN = (1 + np.sqrt(5)) / 2


@pytest.mark.parametrize(
    ("name", "axis", "fold"),
    [
        ("C5", (0, 0, 1), 5),
        ("D3", (0, 0, 1), 3),
        ("D3", (1, 0, 0), 2),
        ("T", (0, 0, 1), 3),
        ("T", (0, np.sqrt(2), 1), 2),
        ("O", (0, 0, 1), 4),
        ("O", (1, 0, 0), 4),
        ("O", (1, 1, 1), 3),
        ("I1", (0, 0, 1), 2),
        ("I1", (0, 1, GOLDEN), 5),
        ("I2", (0, 0, 1), 2),
        ("I2", (1, 0, GOLDEN), 5),
        ("I3", (0, 0, 1), 5),
        ("I3", (-1, 0, GOLDEN), 2),
        ("I4", (0, 0, 1), 5),
        ("I4", (1, 0, GOLDEN), 2),
    ],
)
def test_axes_are_where_they_should_be(name: str, axis: tuple[float, float, float], fold: int) -> None:
    assert has_axis(name, axis, fold)


def test_the_settings_of_i_differ() -> None:
    assert np.array_equal(symmetry_operators("I"), symmetry_operators("I2"))
    assert not has_axis("I1", (1, 0, GOLDEN), 5)
    assert not has_axis("I3", (1, 0, GOLDEN), 2)


def test_names_are_read_in_any_case() -> None:
    assert canonical_group_name(" d7 ") == "D7"
    assert RefineSpec(symmetry="i3").symmetry == "I3"
    assert np.array_equal(symmetry_operators("o"), symmetry_operators("O"))


@pytest.mark.parametrize("name", ["", "C", "C0", "C100", "D", "I5", "TH", "Oh", "C2V", "S4", "X", "T1", "C2 C3"])
def test_another_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="write Cn, Dn, T, O, I or I1 to I4") as refused:
        symmetry_operators(name)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="write Cn, Dn, T, O, I or I1 to I4"):
        RefineSpec(symmetry=name)


def test_operators_are_shared_and_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        symmetry_operators("D2")[0, 0, 0] = 2


@pytest.mark.parametrize(("name", "distance"), [("C1", 0.0), ("C4", 5.0), ("D2", 13.0), ("T", 13.0), ("I", 13.0)])
def test_distance_from_what_stays(name: str, distance: float) -> None:
    assert off_axis_A(name, (3, 4, 12)) == pytest.approx(distance, abs=1e-9)


def test_a_part_beside_the_axes_is_suspicious() -> None:
    points = {"mask": (30.0, 0.0, 5.0), "fulcrum": (0.0, 0.0, 5.0)}
    (line,) = symmetry_warnings("C4", points, 2.0)
    assert line.startswith("symmetry C4 acts about its axis, but the mask lies 30 A off it:")
    assert len(symmetry_warnings("D2", points, 2.0)) == 2
    assert symmetry_warnings("C1", points, 2.0) == ()
    assert symmetry_warnings("C4", {"mask": (1.0, 1.0, 70.0)}, 2.0) == ()


@pytest.mark.parametrize("name", ["C6", "D3", "O", "I"])
def test_what_remains_of_a_group_is_a_group(name: str) -> None:
    """Whatever is taken out; and of a group of its own all is left."""
    operators = symmetry_operators(name)
    for seed in range(5):
        scores = np.random.default_rng(seed).choice([0.0, 0.9, 1.0], len(operators), p=[0.2, 0.4, 0.4])
        kept = largest_subgroup(operators, scores)
        products = np.einsum("aij,bjk->abik", kept, kept).reshape(-1, 1, 3, 3)
        assert np.abs(products - kept).max(axis=(2, 3)).min(axis=1).max() < 1e-9
        assert np.abs(kept[0] - np.eye(3)).max() < 1e-9
        assert len(operators) % len(kept) == 0
    about_z = np.abs(operators[:, 2, 2] - 1) < 1e-9
    assert len(largest_subgroup(operators, about_z.astype(float))) == about_z.sum()
