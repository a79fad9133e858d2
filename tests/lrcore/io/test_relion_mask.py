"""relion_mask_create as a stranger: the same threshold, extension and soft edge on the same map."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore import io, masks
from lrcore.records import Volume
from lrcore.testing import smooth_map

N, PIXEL, THRESHOLD = 48, 1.7, 0.8


@pytest.fixture
def relions(relion: Callable[[str], str], tmp_path: Path) -> Callable[..., np.ndarray]:
    """`relions(extend, soft)` is RELION's mask of the map, in pixels."""
    program = relion("relion_mask_create")
    io.write_volume(tmp_path / "map.mrc", Volume(lumps(), PIXEL))

    def make(extend: int, soft: int) -> np.ndarray:
        numbers = ["--ini_threshold", str(THRESHOLD), "--extend_inimask", str(extend), "--width_soft_edge", str(soft)]
        command = [program, "--i", str(tmp_path / "map.mrc"), "--o", str(tmp_path / "mask.mrc"), *numbers]
        subprocess.run(command, check=True, capture_output=True)
        return io.read_volume(tmp_path / "mask.mrc").data

    return make


def lumps() -> np.ndarray:
    """A map with density that keeps clear of the border, where RELION's edges wrap or stop in another way."""
    data = masks.lowpass(smooth_map(N, 4), 1.0, 7.0)
    return (data / data.std() * masks.sphere_mask(N, 1.0, (0, 0, 0), 12.0, 4.0)).astype(np.float32)


@pytest.mark.parametrize("soft", [0, 1, 5, 8])
def test_the_soft_edge_is_relions(relions, soft: int) -> None:
    inside = masks.voxels_above_threshold(lumps(), THRESHOLD)
    assert 500 < inside.sum() < 20000
    assert np.abs(masks.soft_edge(inside, PIXEL, soft * PIXEL) - relions(0, soft)).max() < 1e-6


@pytest.mark.parametrize("extend", [1, 3, 6, -1, -2])
def test_growing_is_relions(relions, extend: int) -> None:
    """But for the voxels at exactly that distance: RELION neither adds nor removes them, we do."""
    inside = masks.voxels_above_threshold(lumps(), THRESHOLD)
    almost = (extend - np.sign(extend) * 1e-3) * PIXEL
    assert np.array_equal(masks.mask_from_region(inside, PIXEL, almost, 0.0), relions(extend, 0))


def test_growing_with_an_edge_is_relions_to_less_than_a_voxel(relions) -> None:
    """RELION measures the edge from the voxels of the grown mask, we from the region that is grown."""
    ours = masks.mask_from_region(masks.voxels_above_threshold(lumps(), THRESHOLD), PIXEL, 3 * PIXEL, 8 * PIXEL)
    theirs, a_voxel_more = relions(3, 8), relions(4, 8)
    assert np.all(theirs <= ours + 1e-6)
    assert np.all(ours <= a_voxel_more + 1e-6)
