"""Resampling: a function sampled on another grid, Fourier cropping as witness, the header's frame, and messages."""

from pathlib import Path

import numpy as np
import pytest

from lrcore.imaging.grids import crop_ft, ft, ift
from lrcore.imaging.resampling import grid_mismatch, resample_map
from lrcore.masks import soft_sphere
from lrcore.records import Volume


def blob(n: int, apix: float, sd_A: float = 7.0) -> np.ndarray:
    """A Gaussian 5 Å off the box centre along x, sampled on n³ voxels."""
    z, y, x = np.meshgrid(*[(np.arange(n) - n // 2) * apix] * 3, indexing="ij")
    return np.exp(-((x - 5.0) ** 2 + y**2 + z**2) / (2 * sd_A**2)).astype(np.float32)


@pytest.mark.parametrize(
    ("box", "apix"), [(48, 2.0), (40, 2.4), (61, 1.7), (33, 2.9), (20, 4.0), (30, 2.0), (64, 2.0), (64, 1.37)]
)
def test_a_map_is_the_same_function_on_another_grid(box: int, apix: float) -> None:
    found = resample_map(Volume(blob(48, 2.0), 2.0), box, apix)
    assert (found.box, found.pixel_size_A) == (box, apix)
    inside = np.abs((np.arange(box) - box // 2) * apix) < 40
    part = np.ix_(inside, inside, inside)
    assert np.abs(found.data - blob(box, apix))[part].max() < 2e-3
    assert np.abs(found.data).max() < 1.01


@pytest.mark.parametrize("m", [18, 25])
def test_fewer_voxels_of_the_same_box_are_a_crop_in_fourier_space(m: int) -> None:
    n = 30
    data = np.random.default_rng(0).normal(size=(n, n, n)).astype(np.float32)
    witness = ift(crop_ft(ft(data, 3), n, m), m, 3) * (m / n) ** 3
    found = resample_map(Volume(data, 1.5), m, 1.5 * n / m)
    assert np.allclose(found.data, witness, atol=2e-5)


def test_noise_survives_the_way_to_a_finer_grid_and_back() -> None:
    data = np.random.default_rng(1).normal(size=(25, 25, 25)).astype(np.float32)  # odd: without a Nyquist line
    there = resample_map(Volume(data, 2.0), 40, 1.25)
    assert np.allclose(resample_map(there, 25, 2.0).data, data, atol=2e-4)


def test_another_box_keeps_the_voxels_and_a_point_keeps_its_place_in_the_frame_of_the_header() -> None:
    given = Volume(np.random.default_rng(2).normal(size=(16, 16, 16)).astype(np.float32), 2.0, (10.0, 20.0, 30.0))
    larger = resample_map(given, 20, 2.0)
    assert np.array_equal(larger.data[2:18, 2:18, 2:18], given.data)
    assert larger.data[0].max() == 0.0
    for found in (larger, resample_map(given, 20, 1.6), resample_map(given, 9, 3.0)):
        centre = np.array(found.header_origin_A) + found.box // 2 * found.pixel_size_A
        assert centre == pytest.approx([26.0, 36.0, 46.0])


@pytest.mark.parametrize(("box", "apix"), [(40, 1.3), (20, 3.1), (26, 2.0)])
def test_a_mask_stays_between_0_and_1_and_does_not_ring(box: int, apix: float) -> None:
    binary = (soft_sphere(32, 9, 3) > 0.5).astype(np.float32)
    found = resample_map(Volume(binary, 2.0), box, apix, is_mask=True)
    assert found.data.min() == 0.0
    assert found.data.max() == 1.0
    radius = np.sqrt(sum(((np.arange(box) - box // 2) * apix).reshape(s) ** 2 for s in ((-1, 1, 1), (-1, 1), (-1,))))
    assert not found.data[radius > 26].any()
    assert (found.data[radius < 15] == 1).all()
    beyond = resample_map(Volume(1.2 * soft_sphere(32, 9, 3) - 0.1, 2.0), 32, 2.0, is_mask=True)
    assert (beyond.data.min(), beyond.data.max()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("n", "apix", "said"),
    [
        (96, 2.0, None),
        (96, 2.015, None),
        (96, 1.0, "m.mrc: voxel size 1 Å, which many programs write .* is 2 Å in the same box of 96: .*--apix 2$"),
        (96, 1.5, "m.mrc: voxel size 1.5 Å but the particles' voxel size is 2 Å.*--apix 2; .*resample the mask: "),
        (80, 2.4, "the mask is 80³ voxels of 2.4 Å .* 96 of 2 Å, the same extent: .*resample m.mrc --box 96 --apix 2 "),
        (80, 2.0, "the mask is 80³ but the particles' box is 96: re-box the mask: lrwidgets resample m.mrc "),
        (80, 1.0, "80³ voxels of 1 Å .* 96 of 2 Å: resample the mask .*, or, if its header is wrong, .*--apix"),
    ],
)
def test_a_message_says_how_a_grid_differs_and_what_to_do(n: int, apix: float, said: str | None) -> None:
    volume = Volume(np.zeros((n, n, n), np.float32), apix, path=Path("m.mrc"))
    found = grid_mismatch(volume, 96, 2.0, "mask", "the particles'")
    assert (found is None) == (said is None)
    if said is not None:
        with pytest.raises(ValueError, match=said):
            raise ValueError(found)
