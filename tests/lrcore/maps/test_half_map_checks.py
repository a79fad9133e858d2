"""Half maps that make an FSC meaningless are told when they are read, and good ones are not."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.maps.half_map_checks import check_half_maps, contrast_warning, find_half_map_faults
from lrcore.maps.solvent_mask import coarse_mean, outline_distance_A
from lrcore.masks import soft_sphere
from lrcore.records import HalfMaps, Volume

N, APIX = 48, 3.0
SIGNAL = np.roll(soft_sphere(N, 7, 3) + soft_sphere(N, 4, 2), (2, -3, 1), (0, 1, 2))
AROUND = np.roll(soft_sphere(N, 12, 4), (2, -3, 1), (0, 1, 2))
"""A mask of the particle: 0 further than 12 Å from its outline."""


def half(number: int, noise: float = 0.5) -> np.ndarray:
    return (SIGNAL + np.random.default_rng(number).normal(0, noise, SIGNAL.shape)).astype(np.float32)


def maps(first: np.ndarray, second: np.ndarray) -> HalfMaps:
    return HalfMaps(
        *(Volume(np.float32(data), APIX, path=Path(f"{i}.mrc")) for i, data in enumerate((first, second), 1))
    )


@pytest.mark.parametrize("noise", [0.02, 0.5, 2.0])
@pytest.mark.parametrize(
    "change", [lambda a, b: (a, b), lambda a, b: (3 * a + 1, b - 2)], ids=["given", "other scales"]
)
def test_independent_half_maps_pass(noise: float, change: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    found = find_half_map_faults(maps(*change(half(1, noise), half(2, noise))))
    assert (found.unusable, found.harmful) == (None, ())


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (half(1), "2.mrc: is the same map as 1.mrc"),
        (2.5 * half(1), "2.mrc: is a scaled copy of 1.mrc"),
        ((0.3 * half(1)).astype(np.float16), "2.mrc: is a scaled copy of 1.mrc"),
        (half(2) * AROUND + half(1) * (1 - AROUND), "1.mrc and 2.mrc: the half maps are equal in the solvent"),
        (half(2) * AROUND + 0.7 * half(1) * (1 - AROUND), "the half maps are equal in the solvent"),
        (half(2) * AROUND, "[0-9]+% of the solvent has no noise, so the maps have been masked"),
    ],
    ids=["same", "scaled", "scaled in float16", "equal solvent", "scaled solvent", "one masked"],
)
def test_shared_noise_is_warned_of(second: np.ndarray, said: str) -> None:
    with pytest.warns(UserWarning, match=said) as found:
        check_half_maps(maps(half(1), second))
    assert len(found) == 1


def test_both_masked_is_warned_of() -> None:
    (line,) = find_half_map_faults(maps(half(1) * AROUND, half(2) * AROUND)).harmful
    assert "so the maps have been masked" in line


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (half(1), -half(1), "2.mrc: is the negative of 1.mrc"),
        (half(1), -3 * half(1) + 1, "2.mrc: is the negative of 1.mrc"),
        (half(1), -half(2), "2.mrc: has the opposite contrast of 1.mrc"),
        (half(1), np.zeros_like(SIGNAL), "2.mrc: has the same value in every voxel"),
        (np.ones_like(SIGNAL), half(1), "1.mrc: has the same value in every voxel"),
    ],
)
def test_what_is_no_pair_of_half_maps_is_refused(first: np.ndarray, second: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_half_maps(maps(first, second))


def test_a_dark_particle_is_called_inverted_contrast_and_its_outline_is_that_of_the_bright_one() -> None:
    (line,) = find_half_map_faults(maps(-half(1), -half(2))).harmful
    assert line.startswith("1.mrc and 2.mrc: the particle is darker than the solvent, so the contrast is inverted")
    assert contrast_warning(coarse_mean(-half(1), -half(2), APIX)) is not None
    assert contrast_warning(coarse_mean(half(1), half(2), APIX)) is None
    bright, dark = (outline_distance_A(sign * half(1), sign * half(2), APIX) for sign in (1, -1))
    assert np.array_equal(bright, dark)
    assert 0.001 < np.mean(dark == 0) < 0.1


@pytest.mark.alone
def test_half_maps_of_256_voxels_take_less_than_half_a_second() -> None:
    """On one idle core they take 0.25 s; 400³ take 0.8 s."""
    rng = np.random.default_rng(0)
    body = soft_sphere(256, 50, 10)
    large = HalfMaps(*(Volume(body + rng.normal(size=body.shape).astype(np.float32), 1.2) for _ in "12"))
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        find_half_map_faults(large)
        best = min(best, time.process_time() - began)
    assert best < 1.0
