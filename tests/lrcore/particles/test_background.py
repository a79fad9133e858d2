"""Images on a constant or on a ramp give what the same images give without."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import StackReader
from lrcore.particles.background import background_in_sds, remove_background, warn_background
from lrcore.particles.image_stream import batches
from lrcore.records import ImageSource, Particles
from lrcore.simulation.data_set import simulate_noise_particles


@pytest.mark.parametrize("n", [20, 21])
def test_a_plane_is_taken_off_whatever_lies_in_the_middle(n: int) -> None:
    rng = np.random.default_rng(n)
    images = np.zeros((3, n, n), np.float32)
    images[:, n // 2 - 4 : n // 2 + 4, n // 2 - 4 : n // 2 + 4] = rng.normal(size=(3, 8, 8))
    constant, along_x, along_y = rng.normal(scale=10, size=(3, 3))
    share = np.linspace(-0.5, 0.5, n)
    raised = images + constant[:, None, None] + along_x[:, None, None] * share + along_y[:, None, None] * share[:, None]
    raised = raised.astype(np.float32)
    plane = remove_background(raised)
    assert plane == pytest.approx(np.stack([constant, along_x, along_y], axis=1), abs=1e-4)
    assert raised == pytest.approx(images, abs=1e-4)


def test_the_fit_is_the_least_squares_plane_through_the_frame() -> None:
    n, width = 24, 2
    images = np.random.default_rng(0).normal(size=(2, n, n)).astype(np.float32)
    y, x = np.mgrid[:n, :n]
    frame = (np.minimum(x, y) < width) | (np.maximum(x, y) >= n - width)
    basis = np.stack([np.ones(frame.sum()), x[frame] - (n - 1) / 2, y[frame] - (n - 1) / 2], axis=1)
    wanted = np.linalg.lstsq(basis, images[:, frame].T.astype(np.float64), rcond=None)[0].T
    assert remove_background(images) == pytest.approx(wanted * [1, n - 1, n - 1], abs=1e-6)


@pytest.fixture
def noise(tmp_path: Path) -> Particles:
    return simulate_noise_particles(tmp_path, n=40, box=32, pixel_size_A=4.0)


def on_background(particles: Particles, folder: Path, constant: float, rise: float) -> Particles:
    """Return particles whose images lie on a constant and a ramp along x, in SDs of the images."""
    order = np.arange(len(particles))
    with StackReader(particles.images, particles.box) as reader:
        images = reader.read(order)
    raised = images + images.std() * (constant + rise * np.linspace(-0.5, 0.5, particles.box))
    write_image_stack(folder / "raised.mrcs", len(particles), particles.box, 4.0, [raised.astype(np.float32)])
    source = ImageSource((folder / "raised.mrcs",), np.zeros(len(order), np.int32), order, particles.images.sign)
    return replace(particles, images=source)


@pytest.mark.parametrize(("constant", "rise"), [(10.0, 0.0), (0.0, 6.0), (-300.0, 3.0)])
def test_spectra_do_not_change(noise: Particles, tmp_path: Path, constant: float, rise: float) -> None:
    raised, rows, backend = on_background(noise, tmp_path, constant, rise), np.arange(40), get_backend("cpu")
    for found, wanted in zip(batches(raised, rows, backend), batches(noise, rows, backend), strict=True):
        assert not found.bad.any()
        assert abs(found.spectrum - wanted.spectrum).max() < 1e-3 * abs(wanted.spectrum).max()


def test_a_background_is_measured_and_told(noise: Particles, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    warn_background(noise)
    assert not recwarn.list
    raised = on_background(noise, tmp_path, 10.0, 3.0)
    constant, rise = background_in_sds(raised, np.arange(40))
    assert (constant, rise) == (pytest.approx(10.0, abs=0.5), pytest.approx(3.0, abs=0.5))
    with pytest.warns(
        UserWarning, match=r"images are not normalised: median background of 10\.\d SD, ramp of [23]\.\d SD"
    ):
        warn_background(raised)
