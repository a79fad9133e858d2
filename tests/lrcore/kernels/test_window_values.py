"""Windows in 16 bits: twins, rounding, and what the search reads of them."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.kernels.window_values.reference import LARGEST
from lrcore.refinement.window import Window

REFERENCE, CPU = get_backend("reference").kernels, get_backend("cpu").kernels


def samples(size: int) -> FourierSamples:
    return Window(2 * size, size, (0, 0, 0), 1.0).samples


def windows(size: int, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Noise of unit variance with a few strong samples, and weights that may be slightly negative."""
    rng, number = np.random.default_rng(size), len(samples(size).kx)
    W = rng.normal(size=(count, number)) + 1j * rng.normal(size=(count, number))
    W[:, :3] *= 40
    return W.astype(np.complex64), rng.uniform(-0.01, 1, (count, number)).astype(np.float32)


@pytest.mark.parametrize("size", [20, 21, 44])
def test_twins_agree(size: int) -> None:
    W, w = windows(size)
    all_samples, group = samples(size), np.array([0, 1, 1, 0, 1])
    factors = np.random.default_rng(1).uniform(0.5, 2, (2, 2, len(all_samples.kx)))
    variance, shifts = np.linspace(0.5, 0, size // 2), np.random.default_rng(2).normal(size=(5, 2))
    search = half_plane(size, (size / 6, size / 3))
    results = []
    for kernels in (REFERENCE, CPU):
        codes, steps = kernels.pack_windows(W, w)
        data, weight = kernels.unpack_windows(codes, steps, factors, group, all_samples)
        results.append((codes, steps, data, weight, *kernels.search_samples(data, weight, variance, shifts, search)))
    for first, second in zip(*results, strict=True):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        one_code = 1.2 / LARGEST  # a tie may be rounded either way
        assert np.abs(first.astype(np.complex128) - second).max() <= one_code * np.abs(first).max()


@pytest.mark.parametrize("size", [20, 21])
def test_rounding_is_far_below_the_noise(size: int) -> None:
    W, w = windows(size)
    everything = samples(size)
    codes, steps = CPU.pack_windows(W, w)
    ones = np.ones((1, 2, len(everything.kx)))
    data, weight = CPU.unpack_windows(codes, steps, ones, np.zeros(len(W), np.int64), everything)
    once = np.hypot(everything.kx, everything.ky) < size // 2  # the Nyquist frequency has one place for two samples
    back, norm = (values[:, everything.ky, everything.kx] for values in (data, weight))
    assert np.abs(back - W)[:, once].std() < 2e-3  # of noise of SD √2
    assert np.abs(norm - w)[:, once].max() < 2e-5
    mates = np.arange(1, (size + 1) // 2)
    assert np.array_equal(data[:, mates, 0], data[:, -mates, 0].conj())
    assert np.array_equal(weight[:, mates, 0], weight[:, -mates, 0])


def test_an_image_of_zeros_stays_zero() -> None:
    everything = samples(20)
    nothing = np.zeros((2, len(everything.kx)), np.complex64)
    for kernels in (REFERENCE, CPU):
        codes, steps = kernels.pack_windows(nothing, nothing.real)
        data, weight = kernels.unpack_windows(
            codes, steps, np.ones((1, 2, codes.shape[1])), np.zeros(2, int), everything
        )
        assert not data.any()
        assert not weight.any()


def test_the_error_of_the_reference_counts_as_noise() -> None:
    """C / (σ² + C² v) is W / (1 + w v), for W and w without it."""
    rng, size = np.random.default_rng(3), 24
    ctf, image = rng.uniform(-1, 1, (3, size, size // 2 + 1)), rng.normal(size=(3, size, size // 2 + 1))
    sigma, v, search = 2.0, 0.7, half_plane(size, (10.0,))
    data, weight = (ctf * image / sigma).astype(np.complex64), (ctf**2 / sigma).astype(np.float32)
    W, w = CPU.search_samples(data, weight, np.full(13, v), np.zeros((3, 2)), search)
    expected = (ctf * image / (sigma + ctf**2 * v))[:, search.ky, search.kx]
    assert np.allclose(W, expected, rtol=1e-5, atol=1e-6)
    assert np.allclose(w, (ctf**2 / (sigma + ctf**2 * v))[:, search.ky, search.kx], rtol=1e-5)


def test_samples_are_all_of_a_half_plane_once() -> None:
    for size in (20, 21):
        everything = samples(size)
        pairs = set(zip(everything.kx.tolist(), everything.ky.tolist(), strict=True))
        assert len(pairs) == len(everything.kx)
        assert (0, 0) in pairs
        assert all((-x, -y) not in pairs for x, y in pairs if x == 0 and y != 0)
        assert np.hypot(everything.kx, everything.ky).max() == pytest.approx(size // 2)
