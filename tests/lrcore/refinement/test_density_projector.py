"""A density in a window, on voxels of its own, is projected as that of the whole box."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.fourier_volume import map_to_fourier_volume
from lrcore.imaging.grids import half_plane, radius_grid, window_at
from lrcore.imaging.map_spectrum import MapSpectrum
from lrcore.masks import cosine_edge
from lrcore.masks.distance import smallest_window
from lrcore.particles.image_stream import batches
from lrcore.refinement.density_projector import DensityProjector, DensityWindow
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import smooth_map

N, LIMIT = 48, 12
BACKEND = get_backend("cpu")


@pytest.fixture(scope="module")
def density():
    """A density off the centre of the box, with no frequencies beyond a limit to speak of."""
    spectrum = MapSpectrum.from_map(smooth_map(N, 2, 6.0) * cosine_edge(radius_grid(N, 3, (4, -4, 3)), 5.0, 3.0))
    fading = np.exp(-((np.arange(N) / (LIMIT / 2.5)) ** 2))
    return spectrum.filtered(spectrum.shell_table(fading)).to_map()


def in_window(density, m):
    """The density on a grid of m³ voxels of the box, cut to its window."""
    coarse = MapSpectrum.from_map(density).cropped(m // 2 - 8).to_map() if m < N else density
    assert len(coarse) == m
    near = np.where(np.abs(coarse) > 1e-3 * np.abs(coarse).max(), 1.0, 0.0).astype(np.float32)
    centre, size = smallest_window(near)
    offset = np.array(centre[::-1], np.float64) - m // 2
    maps = np.stack([window_at(factor * coarse, centre, size) for factor in (1.0, 2.0)])
    return DensityWindow(maps, offset * N / m, N / m, LIMIT)


@pytest.mark.parametrize("m", [N, 40])
def test_a_window_subtracts_what_the_whole_box_would(density, m, tmp_path):
    made = simulate_flexible_particle(tmp_path, n=8, box=N, pixel_size_A=3.0, snr=1.0)
    (batch,) = batches(made.particles, np.arange(8), BACKEND)
    whole = DensityProjector(map_to_fourier_volume(density, LIMIT), np.zeros(3), 1.0)
    part = in_window(density, m).projector(1, N)
    assert part.volume.size < m
    images = [
        batch.spectrum - subtract_outside_density(batch, (p,), made.particles, BACKEND).spectrum for p in (whole, part)
    ]
    scale = float(np.abs(images[0]).max())
    assert (
        np.abs(images[1] - images[0]).max() < 0.05 * scale
    )  # of interpolation, more of it far from the middle of the whole box

    twice = subtract_outside_density(batch, (part, part), made.particles, BACKEND).spectrum
    assert batch.spectrum - twice == pytest.approx(2 * images[1], abs=1e-3 * scale)
    assert subtract_outside_density(batch, (), made.particles, BACKEND) is batch


@pytest.mark.parametrize("m", [N, 40])
def test_a_window_on_the_grid_of_the_box_is_the_density(density, m):
    window = in_window(density, m)
    scale = float(np.abs(density).max())
    assert np.abs(window.on_box(1, N) - density).max() < 0.03 * scale
    assert window.on_box(2, N) == pytest.approx(2 * window.on_box(1, N), abs=1e-5 * scale)
    halved = window.scaled(np.array([0.5, 1.0], np.float32))
    assert halved.maps[0] == pytest.approx(0.5 * window.maps[0])
    assert np.array_equal(halved.maps[1], window.maps[1])


def test_samples_end_where_the_density_does(density, tmp_path):
    made = simulate_flexible_particle(tmp_path, n=2, box=N, pixel_size_A=3.0, snr=1.0)
    part = in_window(density, N).projector(1, N)
    reach = np.hypot(part.samples(made.particles).kx, part.samples(made.particles).ky).max()
    assert LIMIT <= reach <= LIMIT + 2
    assert len(half_plane(N, (LIMIT + 2.0,)).kx) >= len(part.samples(made.particles).kx)
