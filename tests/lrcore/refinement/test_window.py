"""The window loses nothing: differences of log-likelihood between poses are those of the whole image."""

from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.fourier_volume import QUADRATIC, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane, radius_grid, resize, window_at
from lrcore.io import read_volume
from lrcore.kernels.model_images.reference import apply_shifts
from lrcore.kernels.whiten.reference import expand_shells
from lrcore.masks import centre_of_mass, cosine_edge, soft_sphere
from lrcore.particles.image_stream import Batch, batches
from lrcore.records import Poses
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from lrcore.simulation.images import noise_variance

BOX, WINDOW, PIXEL, COUNT, TRIALS = 128, 72, 1.8, 12, 30
FINEST_A = 4.0
BACKEND = get_backend("cpu")


def simulated(folder: Path, radius_A: float) -> FlexibleParticle:
    """Images of a body of that radius, with a defocus of 0.8 to 2 µm and coloured noise."""
    return simulate_flexible_particle(folder, n=COUNT, box=BOX, pixel_size_A=PIXEL, snr=0.05, radius_b_A=radius_A)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    """A body that lies well inside the mask: 26 Å in a mask of 54 Å."""
    return simulated(tmp_path_factory.mktemp("data"), 26.0)


def reference(data: FlexibleParticle) -> tuple[np.ndarray, np.ndarray]:
    """Body B, low-passed from 6 to 4 Å, in a mask of radius 30 pixels, about the window's centre; where that is."""
    truth = read_volume(data.map("gt_b")).data
    centre = np.rint(centre_of_mass(read_volume(data.map("mask_b")).data))
    start, end = (BOX * PIXEL / period for period in (6.0, FINEST_A))
    gain = cosine_edge(np.arange(BOX // 2 + 1, dtype=np.float32), start, end - start)
    middle = tuple(int(c) for c in (centre + BOX // 2)[::-1])
    return window_at(filter_map(truth, gain), middle, WINDOW) * soft_sphere(WINDOW, 27.0, 3.0), centre


def likelihoods(
    map_: np.ndarray, W: np.ndarray, w: np.ndarray, samples: FourierSamples, poses: Poses, trials: np.ndarray
) -> np.ndarray:
    """−log p of each image at each trial pose: (COUNT, TRIALS)."""
    volume = map_to_fourier_volume(map_, (map_.shape[0] - 1) // 2, kernel=QUADRATIC)
    W, w = np.ascontiguousarray(W, np.complex64), np.ascontiguousarray(w, np.float32)
    evaluate, lever = BACKEND.kernels.evaluate_with_derivatives, np.zeros(3)
    columns = [
        evaluate(volume, W, w, samples, 0, poses.rotation, np.tile(theta, (COUNT, 1)), lever)[0] for theta in trials
    ]
    return np.stack(columns, axis=1)


def windowed(
    batch: Batch, noise: np.ndarray, points: np.ndarray, samples: FourierSamples
) -> tuple[np.ndarray, np.ndarray]:
    """W and w of images whose noise is (1, shells), against a reference without error."""
    group = np.zeros(len(batch.rows), np.int32)
    return BACKEND.kernels.whiten_windows(batch.spectrum, batch.ctf, noise, group, np.zeros(1), points, samples)


def whole(
    batch: Batch, noise: np.ndarray, points: np.ndarray, samples: FourierSamples
) -> tuple[np.ndarray, np.ndarray]:
    """What `windowed` would give with the box as its window."""
    ky, kx = samples.ky, samples.kx
    weight = (batch.ctf / expand_shells(noise[0], BOX))[:, ky, kx]
    return weight * apply_shifts(batch.spectrum[:, ky, kx], points, samples), weight * batch.ctf[:, ky, kx]


def disagreement(data: FlexibleParticle, window: int) -> float:
    """RMS difference between log-likelihoods of a window and of the whole image, over their spread with the pose."""
    map_, centre = reference(data)
    poses = data.poses_b
    points = (poses.rotation @ (centre * PIXEL))[:, :2] - poses.origin_A
    batch = next(batches(data.particles, np.arange(COUNT), BACKEND))
    noise = noise_variance(BOX, PIXEL, "coloured", 0)[:1] * BOX**2
    rng = np.random.default_rng(0)
    turns, shifts = np.radians(rng.normal(0, 5.0, (TRIALS, 3))), rng.normal(0, 3.0 / PIXEL, (TRIALS, 2))
    trials = np.concatenate([turns, shifts], axis=1)
    found = []
    for size, cut in ((window, windowed), (BOX, whole)):
        samples = half_plane(size, (size * PIXEL / FINEST_A + 1,))
        W, w = cut(batch, noise, points / PIXEL, samples)
        found.append(likelihoods(resize(map_, size, 3), W, w, samples, poses, trials))
    inside, full = (values - values.mean(axis=1, keepdims=True) for values in found)
    assert full.std(axis=1).min() > 5.0
    return float((inside - full).std() / full.std())


@pytest.mark.slow
def test_differences_of_log_likelihood_are_those_of_the_whole_image(data: FlexibleParticle) -> None:
    found = disagreement(data, WINDOW)
    print(f"window of {WINDOW} in a box of {BOX}: {found:.1e} of the spread")
    assert found < 1e-3


@pytest.mark.slow
def test_a_body_that_fills_two_thirds_of_the_mask_costs_a_little(tmp_path: Path) -> None:
    """Distances within it exceed half a window, so that Thon rings finer than the window enter the norm |P|²."""
    found = disagreement(simulated(tmp_path, 36.0), WINDOW)
    print(f"the same with a body of 36 Å: {found:.1e} of the spread")
    assert found < 1e-2


def test_a_window_smaller_than_the_body_is_noticed(data: FlexibleParticle) -> None:
    assert disagreement(data, 32) > 1e-2


def test_the_cross_term_is_exact(data: FlexibleParticle) -> None:
    """⟨C X / σ², image⟩ for any image inside the window, by Parseval."""
    batch = next(batches(data.particles, np.arange(COUNT), BACKEND))
    rng = np.random.default_rng(1)
    image = rng.normal(size=(WINDOW, WINDOW)) * (radius_grid(WINDOW, 2) < 30)
    points = rng.normal(0, 5.0, (COUNT, 2))
    values = []
    for size in (WINDOW, BOX):
        spectrum = np.fft.rfft2(np.fft.ifftshift(resize(image, size, 2)))
        samples = FourierSamples(*_everything(size), ends=(size * (size // 2 + 1),), size=size)
        cut = windowed if size == WINDOW else whole
        W, _ = cut(batch, np.ones((1, 1)), points, samples)
        twice = np.where((samples.kx == 0) | (samples.kx == size // 2), 1.0, 2.0)
        values.append((W.conj() * spectrum[samples.ky, samples.kx] * twice).real.sum(axis=1))
    assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-4 * np.abs(values[1]).max())


def _everything(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The kx and ky of the whole half-complex FT of an even size."""
    ky, kx = np.mgrid[-(size // 2) : size // 2, 0 : size // 2 + 1]
    return kx.ravel().astype(np.int32), ky.ravel().astype(np.int32)
