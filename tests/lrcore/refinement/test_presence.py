"""Evidence of the body, the share of the images that hold it, and their probabilities, against direct calculations."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.kernels.local_search import SearchLimits
from lrcore.refinement import presence
from lrcore.refinement.presence import (
    MIN_SHARE,
    MISFIT_SD,
    NOISE_SD,
    Shares,
    _over_noise,
    estimate_shares,
    log_evidence,
    presence_of,
    probability_of_presence,
)
from lrcore.refinement.search_frame import SearchFrame, make_lattice
from tests.lrcore.kernels.images import LEVER, noisy_images

LIMITS = SearchLimits(rotation=0.5, shift=6.0, rotation_sd=0.08, shift_sd=1.0)
NEVER = np.full(40_000, -300.0)
"""Log evidence of something else in images that never show it."""
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
        found = estimate_shares(evidence, NEVER[: len(evidence)])
        assert found.present == pytest.approx(share, abs=6 * found.error)
        assert found.misfit < 1e-6
        pulls.append((found.present - share) / found.error)
        if distance == 10.0:
            assert found.present == pytest.approx(present.mean(), abs=1e-3)
    assert abs(np.mean(pulls)) < 0.6
    assert 0.7 < np.std(pulls) < 1.35


def test_all_or_none_hold_the_body() -> None:
    assert estimate_shares(mixture(500, 1.0, 8.0, 0)[0], NEVER[:500]).present == pytest.approx(1.0, abs=1e-6)
    assert estimate_shares(mixture(500, 0.0, 8.0, 0)[0], NEVER[:500]).present < 0.01
    assert np.all(probability_of_presence(np.array([-50.0, 3.0]), NEVER[:2], Shares(0.5 * MIN_SHARE)) == 1.0)
    assert estimate_shares(np.zeros(5), np.zeros(5)) == Shares(1.0, 0.0, 0.0)


def test_probabilities_are_what_they_say() -> None:
    evidence, present = mixture(40_000, 0.6, 1.5, 1)
    misfit = NEVER[: len(evidence)]
    shares = estimate_shares(evidence, misfit)
    probability = probability_of_presence(evidence, misfit, shares)
    for low in np.arange(0.0, 1.0, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        assert inside.sum() > 300
        assert present[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.05)
    assert probability.mean() == pytest.approx(shares.present, abs=1e-5)


def test_extreme_evidence_is_no_number_trouble() -> None:
    evidence, misfit = np.array([-300.0, 0.0, 300.0, 300.0]), np.array([-300.0, 0.0, -300.0, 300.0])
    found = probability_of_presence(evidence, misfit, Shares(0.25, 0.05))
    assert found == pytest.approx([0.0, 0.25, 1.0, 0.25 / 0.3])


def test_half_sets_have_their_own_share_and_invalid_images_none() -> None:
    one, _ = mixture(400, 0.9, 6.0, 2)
    two, _ = mixture(400, 0.4, 6.0, 3)
    half, valid = np.repeat([1, 2], 400), np.ones(800, np.bool_)
    valid[0] = False
    found = presence_of(np.concatenate([one, two]), NEVER[:800], half, valid)
    assert found[0] == 0.0
    assert found[1:400].mean() == pytest.approx(estimate_shares(one[1:], NEVER[:399]).present, abs=1e-5)
    assert found[400:].mean() == pytest.approx(estimate_shares(two, NEVER[:400]).present, abs=1e-5)


@pytest.mark.parametrize("limits", [LIMITS, SearchLimits(0.8, 12.0, np.inf, np.inf)], ids=["prior", "no prior"])
@pytest.mark.parametrize(("off", "error"), [(0.0, 2.0), (0.5, 5.0)])
def test_evidence_is_the_integral_over_the_pose(
    limits: SearchLimits, off: float, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With noise of known strength. Importance sampling about the mode.

    off: from there in SDs of each parameter, as the pose of another map is.
    """
    monkeypatch.setattr(presence, "NOISE_SD", 1e-3)
    volume, samples, W, w, centres, theta = noisy_images(6, WEIGHT)
    frame = SearchFrame(volume, samples, LEVER, np.zeros(3), limits, make_lattice(limits, 5.0, 0.1), 2.0, volume)
    backend, rng, band = get_backend("cpu", 1), np.random.default_rng(0), len(samples.ends) - 1
    one = np.ones((6, 1), np.bool_)
    modes = backend.kernels.find_posterior_modes(volume, W, w, samples, centres, theta[:, None], one, LEVER, limits)
    mode, precision = modes.theta[:, 0], modes.hessian[:, 0] + limits.precision(centres)
    away = np.linalg.solve(np.linalg.cholesky(precision).transpose(0, 2, 1), rng.normal(size=(6, 5, 1)))[..., 0]
    at = mode + off * away
    found, _ = log_evidence(W, w, frame, centres, at, np.ones(6), backend)
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
    with_body, misfit = log_evidence(W, w, frame, centres, theta, np.ones(40), backend)
    without, misfit_without = log_evidence(noise, w, frame, centres, theta, np.ones(40), backend)
    assert with_body.min() > 5
    assert without.max() < 0
    assert misfit_without.max() < 0
    assert np.all(misfit < with_body)


def test_something_else_is_neither_the_body_nor_nothing() -> None:
    """Power several times that of the noise, with and without the body."""
    volume, samples, W, w, centres, theta = noisy_images(40, WEIGHT)
    rng = np.random.default_rng(6)
    strong = (rng.normal(size=(*W.shape, 2)) @ [1, 1j] * np.sqrt(2 * w)).astype(np.complex64)
    frame = SearchFrame(volume, samples, LEVER, np.zeros(3), LIMITS, make_lattice(LIMITS, 5.0, 0.1), 2.0, volume)
    for images in (strong, W + strong):
        body, misfit = log_evidence(images, w, frame, centres, theta, np.ones(40), get_backend("cpu", 1))
        assert np.all(misfit > 10)
        assert np.all(misfit > body)
    shares = estimate_shares(body, misfit)
    assert shares.misfit > 0.99


@pytest.mark.parametrize("sd", [NOISE_SD, MISFIT_SD])
def test_the_integral_over_the_noise(sd: float) -> None:
    """Against adaptive quadrature, up to the constant of the grid's spacing."""
    from scipy.integrate import quad

    found = _over_noise(np.array([80.0, 100.0, 150.0, 400.0]), 100, sd)
    expected = []
    for C in (80.0, 100.0, 150.0, 400.0):
        peak = max(-100 * t - C * np.exp(-t) - 0.5 * (t / sd) ** 2 for t in np.linspace(-1.5, 5, 4001))

        def integrand(t: float, C: float = C, peak: float = peak) -> float:
            return float(np.exp(-100 * t - C * np.exp(-t) - 0.5 * (t / sd) ** 2 - peak))

        expected.append(peak + np.log(quad(integrand, -1.5, 5, limit=200, points=[0.0, np.log(C / 100)])[0] / sd))
    assert found - found[0] == pytest.approx(np.array(expected) - expected[0], abs=0.02)
