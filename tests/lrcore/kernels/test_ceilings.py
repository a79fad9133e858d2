"""The ceilings do what their definition says: a loop that the compiler left out would be no ceiling."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.fourier_volume import fourier_volume_shape
from lrcore.imaging.grids import half_plane
from lrcore.imaging.rotations import from_euler
from lrcore.kernels.roofline import reference
from lrcore.simulation.benchmark_data import voxel_indices

LIMIT = 9


@pytest.fixture(scope="module")
def compiled():
    get_backend("cpu")  # says where compiled code is kept
    from lrcore.kernels.roofline import cpu

    return cpu


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(*fourier_volume_shape(LIMIT), 2)) @ [1, 1j]).astype(np.complex64)


@pytest.fixture(scope="module")
def at():
    turns = from_euler(np.random.default_rng(1).uniform(-180, 180, (5, 3)))
    return voxel_indices(LIMIT, turns, half_plane(24, (float(LIMIT),)))


def test_corners_are_where_slices_read(at):
    samples = half_plane(24, (float(LIMIT),))
    straight = voxel_indices(LIMIT, np.eye(3)[None], samples)[0]
    z, y, x = np.unravel_index(straight, fourier_volume_shape(LIMIT))
    centre = fourier_volume_shape(LIMIT)[0] // 2
    last = np.array(fourier_volume_shape(LIMIT)) - 4
    assert np.array_equal(z, np.full(len(z), centre))
    assert np.array_equal(y, np.minimum(2 * samples.ky + centre, last[1]))
    assert np.array_equal(x, np.minimum(2 * samples.kx + 1, last[2]))
    assert len(np.unique(at)) > 500


@pytest.mark.parametrize("width", [2, 3])
def test_gather(compiled, volume, at, width):
    found, expected = (twin.gather(volume, at, width) for twin in (compiled, reference))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_scatter(compiled, at):
    sums = [
        (np.zeros(fourier_volume_shape(LIMIT), np.complex64), np.zeros(fourier_volume_shape(LIMIT), np.float32))
        for _ in range(2)
    ]
    for twin, (data, weight) in zip((compiled, reference), sums, strict=True):
        twin.scatter(data, weight, at)
    assert np.array_equal(sums[0][0], sums[1][0])
    assert np.array_equal(sums[0][1], sums[1][1])
    assert sums[0][1].sum() == 8 * at.size


def test_copy_and_multiply_add(compiled):
    values = np.random.default_rng(2).uniform(size=(3, 40)).astype(np.float32)
    found, expected = values.copy(), values.copy()
    compiled.multiply_add(found, 0.75, 0.1, 2)
    reference.multiply_add(expected, 0.75, 0.1, 2)
    assert np.allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, values)
    target = np.zeros(40, np.float32)
    compiled.copy(values[0], target)
    assert np.array_equal(target, values[0])
