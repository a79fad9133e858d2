"""Evidence of the body, the share of the images that hold it, and their probabilities, against direct calculations."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.kernels.local_search import SearchLimits
from lrcore.refinement.presence import (
    MIN_SHARE,
    estimate_share,
    log_evidence,
    presence_of,
    probability_of_presence,
)
from lrcore.refinement.search_frame import SearchFrame, make_lattice
from tests.lrcore.kernels.images import LEVER, noisy_images

LIMITS = SearchLimits(rotation=0.5, shift=6.0, rotation_sd=0.08, shift_sd=1.0)
WEIGHT = 3e-6
"""Of an image's samples, such that the log evidence is about 100."""


def mixture(n: int, share: float, distance: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log evidence of n images, and which hold the body: x of N(d, 1) or N(0, 1), log Z = d x − d² / 2."""
    rng = np.random.default_rng(seed)
    present = rng.uniform(size=n) < share
    return distance * (rng.normal(size=n) + distance * present) - 0.5 * distance**2, present


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("distance", [2.0, 10.0])
def test_the_share_is_found_within_its_error(share: float, distance: float) -> None:
    pulls = []
    for seed in range(40):
        evidence, present = mixture(800, share, distance, seed)
        found = estimate_share(evidence)
        assert found.value == pytest.approx(share, abs=6 * found.error)
        pulls.append((found.value - share) / found.error)
        if distance == 10.0:
            assert found.value == pytest.approx(present.mean(), abs=1e-3)
    assert abs(np.mean(pulls)) < 0.6
    assert 0.7 < np.std(pulls) < 1.35


def test_all_or_none_hold_the_body() -> None:
    assert estimate_share(mixture(500, 1.0, 8.0, 0)[0]).value == 1.0
    assert estimate_share(mixture(500, 0.0, 8.0, 0)[0]).value < 0.01
    assert np.all(probability_of_presence(np.array([-50.0, 3.0]), 0.5 * MIN_SHARE) == 1.0)


def test_probabilities_are_what_they_say() -> None:
    evidence, present = mixture(40_000, 0.6, 1.5, 1)
    probability = probability_of_presence(evidence, estimate_share(evidence).value)
    for low in np.arange(0.0, 1.0, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        assert inside.sum() > 300
        assert present[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.05)
    assert probability.mean() == pytest.approx(estimate_share(evidence).value, abs=1e-6)


def test_extreme_evidence_is_no_number_trouble() -> None:
    assert probability_of_presence(np.array([-500.0, 0.0, 500.0]), 0.25) == pytest.approx([0.0, 0.25, 1.0])


def test_half_sets_have_their_own_share_and_invalid_images_none() -> None:
    one, _ = mixture(400, 0.9, 6.0, 2)
    two, _ = mixture(400, 0.4, 6.0, 3)
    half, valid = np.repeat([1, 2], 400), np.ones(800, np.bool_)
    valid[0] = False
    found = presence_of(np.concatenate([one, two]), half, valid)
    assert found[0] == 0.0
    assert found[1:400].mean() == pytest.approx(estimate_share(one[1:]).value, abs=1e-6)
    assert found[400:].mean() == pytest.approx(estimate_share(two).value, abs=1e-6)


@pytest.mark.parametrize("limits", [LIMITS, SearchLimits(0.8, 12.0, np.inf, np.inf)], ids=["prior", "no prior"])
@pytest.mark.parametrize(("off", "error"), [(0.0, 2.0), (0.5, 5.0)])
def test_evidence_is_the_integral_over_the_pose(limits: SearchLimits, off: float, error: float) -> None:
    """Importance sampling about the mode. `off`: from there in SDs of each parameter, as the pose of another map is."""
    volume, samples, W, w, centres, theta = noisy_images(6, WEIGHT)
    frame = SearchFrame(volume, samples, LEVER, np.zeros(3), limits, make_lattice(limits, 5.0, 0.1), 2.0, volume)
    backend, rng, band = get_backend("cpu", 1), np.random.default_rng(0), len(samples.ends) - 1
    one = np.ones((6, 1), np.bool_)
    modes = backend.kernels.find_posterior_modes(volume, W, w, samples, centres, theta[:, None], one, LEVER, limits)
    mode, precision = modes.theta[:, 0], modes.hessian[:, 0] + limits.precision(centres)
    away = np.linalg.solve(np.linalg.cholesky(precision).transpose(0, 2, 1), rng.normal(size=(6, 5, 1)))[..., 0]
    at = mode + off * away
    found = log_evidence(W, w, frame, centres, at, np.ones(6), backend)
    for image in range(6):
        root = np.linalg.cholesky(np.linalg.inv(precision[image])) * 1.3
        draws = rng.standard_t(6, (20_000, 5))
        points = mode[image] + draws @ root.T
        value = backend.kernels.evaluate_likelihood(
            volume, W[[image]], w[[image]], samples, band, centres[[image]], points[None], LEVER
        )[0]
        log_t = np.sum(-3.5 * np.log1p(draws**2 / 6), axis=1) + 5 * np.log(0.38273277230987157)
        log_density = log_t - np.log(np.abs(np.linalg.det(root)))
        terms = -value + log_prior(points, limits) - log_density
        expected = terms.max() + np.log(np.mean(np.exp(terms - terms.max())))
        assert found[image] == pytest.approx(expected, abs=error)


def log_prior(theta: np.ndarray, limits: SearchLimits) -> np.ndarray:
    """Log density of the prior, which without SDs is uniform in the extents."""
    inside = (np.linalg.norm(theta[:, :3], axis=1) < limits.rotation) & (
        np.linalg.norm(theta[:, 3:], axis=1) < limits.shift
    )
    if not np.isfinite(limits.rotation_sd):
        volume = 4 / 3 * np.pi * limits.rotation**3 * np.pi * limits.shift**2
        return np.where(inside, -np.log(volume), -np.inf)
    sd = np.array([limits.rotation_sd] * 3 + [limits.shift_sd] * 2)
    return -0.5 * ((theta / sd) ** 2).sum(axis=1) - np.log(sd * np.sqrt(2 * np.pi)).sum()


def test_noise_alone_speaks_against_the_body() -> None:
    volume, samples, W, w, centres, theta = noisy_images(40, WEIGHT)
    rng = np.random.default_rng(5)
    noise = (rng.normal(size=(*W.shape, 2)) @ [1, 1j] * np.sqrt(w / 2)).astype(np.complex64)
    frame = SearchFrame(volume, samples, LEVER, np.zeros(3), LIMITS, make_lattice(LIMITS, 5.0, 0.1), 2.0, volume)
    backend = get_backend("cpu", 1)
    with_body = log_evidence(W, w, frame, centres, theta, np.ones(40), backend)
    without = log_evidence(noise, w, frame, centres, theta, np.ones(40), backend)
    assert with_body.min() > 5
    assert without.max() < 0
