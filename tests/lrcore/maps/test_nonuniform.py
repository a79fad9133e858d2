"""Non-uniform regularisation: it keeps what is rigid, filters what is not, and makes nothing of noise."""

import numpy as np
import pytest
import scipy.fft

from lrcore.imaging.filters import butterworth, cutoff_ladder, local_lowpass
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import multiply_shells, radius_grid, shell_frequency
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.maps.nonuniform import cutoff_map, filter_nonuniform
from lrcore.masks import cosine_edge, inscribed_sphere
from lrcore.records import Fsc, Volume
from lrcore.simulation.atoms import density_of_atoms, distance_to_atoms_A
from lrcore.simulation.phantom import make_two_body_phantom

N, PIXEL = 96, 2.0


def noise(seed, n=N):
    return np.random.default_rng(seed).normal(size=(n, n, n)).astype(np.float32)


@pytest.fixture(scope="module")
def belted():
    """A rigid body of atoms in a disordered belt: truth, two noisy half maps, rigid region, belt, sphere.

    The belt has the same mean density in both half maps and details, with the spectrum of protein, that differ.
    """
    frequency = shell_frequency(N, PIXEL)
    atoms = make_two_body_phantom(1, 36.0, 20.0).body_a
    atoms = atoms - atoms.mean(axis=0)
    truth = density_of_atoms(atoms, N, PIXEL, 60.0)
    truth /= truth.std()
    rigid = cosine_edge(distance_to_atoms_A(atoms, N, PIXEL), 4.0, 6.0)
    height = np.abs(np.arange(N, dtype=np.float32) - N // 2) * PIXEL
    belt = (
        cosine_edge(height, 14.0, 6.0)[:, None, None] * cosine_edge(radius_grid(N, 3) * PIXEL, 62.0, 6.0) * (1 - rigid)
    )
    halves = []
    for seed in (1, 2):
        details = filter_map(noise(seed), 9 * np.exp(-15 * frequency**2))
        halves.append(truth + belt * (1 + details) + 4 * noise(seed + 10))
    return truth, halves, rigid, belt, inscribed_sphere(N)


def crossing(a, b, mask):
    return Fsc("truth", shell_frequency(N, PIXEL), masked_fsc(a, b, mask)).resolution_A(0.5)


def test_a_rigid_body_in_a_disordered_belt_is_truer_than_by_one_filter_for_all(belted):
    truth, (a, b), rigid, belt, sphere = belted
    gain = wiener_gain(masked_fsc(a, b, sphere))
    uniform = filter_map(0.5 * (a + b), gain)
    found = filter_nonuniform(Volume(a, PIXEL), Volume(b, PIXEL), Volume(sphere, PIXEL), workers=2)
    ours = 0.5 * (found.first.data + found.second.data)
    at = {name: crossing(data, truth, rigid) for name, data in (("one filter", uniform), ("non-uniform", ours))}
    mean = {name: masked_fsc(data, truth, rigid)[1:].mean() for name, data in (("one", uniform), ("non", ours))}
    inside = rigid > 0.9
    error = {
        name: np.std((data - truth)[inside]) / truth[inside].std() for name, data in (("one", uniform), ("non", ours))
    }
    cutoff = found.cutoff_A.data
    print(f"against the truth in the rigid region, FSC 0.5 at {at}, mean {mean}, error {error}")
    print(f"median cut-off {np.median(cutoff[inside]):.1f} Å in it, {np.median(cutoff[belt > 0.9]):.1f} Å in the belt")
    assert at["non-uniform"] < 0.7 * at["one filter"]
    assert mean["non"] > mean["one"] + 0.2
    assert error["non"] < 0.9 * error["one"]
    assert np.median(cutoff[inside]) < 8 < 15 < np.median(cutoff[belt > 0.9])


@pytest.mark.parametrize("seed", range(3))
def test_noise_stays_noise(seed):
    """Filtered alike where they happen to agree, half maps of noise would show an FSC that is not theirs."""
    a, b = noise(20 + seed), noise(30 + seed)
    sphere = inscribed_sphere(N)
    found = filter_nonuniform(Volume(a, PIXEL), Volume(b, PIXEL), Volume(sphere, PIXEL), workers=2)
    beyond = shell_frequency(N, PIXEL) > 1 / 20
    before, after = (masked_fsc(*pair, sphere)[beyond] for pair in ((a, b), (found.first.data, found.second.data)))
    print(f"highest FSC of noise beyond 20 Å: {before.max():.3f} raw, {after.max():.3f} filtered")
    assert np.median(found.cutoff_A.data) == pytest.approx(20, rel=1e-3)
    assert after.max() < 0.1
    assert abs(after.mean()) < 0.05


def test_without_noise_nothing_is_filtered():
    truth = density_of_atoms(make_two_body_phantom(2, 20.0, 16.0).atoms, 64, 2.0, 60.0)
    found = filter_nonuniform(Volume(truth, 2.0), Volume(truth, 2.0))
    assert np.quantile(found.cutoff_A.data[truth > 0.2 * truth.max()], 0.99) == pytest.approx(4.0, rel=1e-3)
    assert np.abs(found.first.data - truth).max() < 0.02 * truth.max()


def plain_cutoff(a, b, mask, pixel, factor, coarsest):
    """The definition, with nothing cropped, resampled or factored: errors squared, averaged, added up."""
    n = len(a)
    frequency = shell_frequency(n, pixel)
    rungs = cutoff_ladder(2 * pixel, coarsest)
    k = np.meshgrid(*[np.fft.fftfreq(n)] * 2, np.fft.rfftfreq(n), indexing="ij")
    squares = sum(axis**2 for axis in k)

    def low(data, rung):
        spectrum = scipy.fft.rfftn(data)
        gain = butterworth(np.arange(2 * n) * frequency[1], 1 / rung)
        multiply_shells(spectrum, gain, n)
        return scipy.fft.irfftn(spectrum, data.shape)

    def window(data, rung):
        sd = factor * rung / pixel / np.sqrt(8 * np.log(2))
        return scipy.fft.irfftn(scipy.fft.rfftn(data) * np.exp(-2 * np.pi**2 * sd**2 * squares), data.shape)

    sums = [np.zeros(a.shape)]
    errors = [(low(a, rung) - b) ** 2 + (low(b, rung) - a) ** 2 for rung in rungs]
    for i in range(1, len(rungs)):
        added = window((errors[i] - errors[i - 1]) * mask, rungs[i]) / np.maximum(window(mask, rungs[i]), 1e-3)
        sums.append(sums[-1] + added)
    return rungs[np.argmin(sums, axis=0)]


@pytest.mark.parametrize("n", [48, 45])
def test_the_cutoffs_are_those_of_the_plain_definition(n):
    truth = density_of_atoms(make_two_body_phantom(3, 16.0, 16.0).atoms, n, 2.0, 60.0)
    truth /= truth.std()
    rough = np.where(np.arange(n) < n // 2, 0.2, 3.0).astype(np.float32)
    a, b = (truth + rough * noise(seed, n) for seed in (1, 2))
    mask = inscribed_sphere(n)
    fast, plain = cutoff_map(a, b, mask, 2.0), plain_cutoff(a, b, mask, 2.0, 3.0, 20.0)
    inside = mask > 0.5
    off = np.abs(np.log(fast / plain))[inside] / np.log(1.1)
    print(f"rungs off: {off.mean():.2f} in the mean, {np.quantile(off, 0.9):.2f} at 90 %")
    assert np.ptp(np.log(plain[inside])) > np.log(1.3)
    assert off.mean() < 0.5
    assert np.quantile(off, 0.9) < 1.5


def test_halves_may_change_places_and_both_are_filtered_by_one_map():
    a, b = noise(1, 40), noise(2, 40)
    b = b + a
    one, other = (filter_nonuniform(Volume(x, 2.0), Volume(y, 2.0)) for x, y in ((a, b), (b, a)))
    assert np.abs(np.log(one.cutoff_A.data / other.cutoff_A.data)).max() < 1e-3
    (again,) = local_lowpass((a,), 2.0, one.cutoff_A.data, shape=butterworth)
    assert np.array_equal(again, one.first.data)
