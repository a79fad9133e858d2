"""Classes at fixed poses: E- and M-step against plain NumPy, laws, and two conformers that are told apart."""

import warnings
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import comb

from lrcore.classification.class_number import choose_class_number
from lrcore.classification.classify import class_half_maps, classify, start_maps
from lrcore.classification.expectation import (
    class_values,
    class_volumes,
    perplexity_of,
    posterior_of,
    samples_to_classify,
    temperature_for,
)
from lrcore.classification.fit import FoldSums, folds_of, random_posterior
from lrcore.classification.images import ClassificationImages, classification_images
from lrcore.classification.maximisation import class_maps, class_sums
from lrcore.classification.result import Classification, to_dataset
from lrcore.classification.settings import ClassificationSettings, check_settings
from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.imaging.grids import ift
from lrcore.imaging.rotations import rotation_exp
from lrcore.kernels.backproject.reference import backproject_images
from lrcore.kernels.local_search.reference import project_slices_quadratic
from lrcore.particles.image_stream import reading_order
from lrcore.records import Poses, Progress, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import regularisation_from_fsc, solve_map
from lrcore.refinement.start import start
from lrcore.refinement.window import LEAST_SHARE, with_coarse_shells
from lrcore.simulation.data_set import make_folder, make_particles, random_rotations, soft_mask
from lrcore.simulation.images import noise_ft, project, write_stack
from lrcore.simulation.phantom import SimulatedMotion, make_two_body_phantom

pytestmark = pytest.mark.filterwarnings("ignore")
BOX, PIXEL, COUNT, TURN = 48, 3.5, 600, np.radians(25.0)
BACKEND = get_backend("cpu", 2)
RESOLUTION_A = 10.0


def result_of(generator: Generator[Any, None, Any]) -> Any:
    """Return what a generator returns."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def adjusted_rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two partitions: 1 if equal, 0 on average by chance (Hubert & Arabie 1985)."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    both, rows, columns = (comb(t, 2).sum() for t in (table, table.sum(axis=1), table.sum(axis=0)))
    chance = rows * columns / comb(len(a), 2)
    return float((both - chance) / ((rows + columns) / 2 - chance))


def two_conformers(folder: Path, count: int = COUNT, seed: int = 0) -> tuple[Job, np.ndarray]:
    """Images at SNR 0.05 in which body B is turned by 25° about the hinge in every second one; label (count,)."""
    folder, rng = make_folder(folder), np.random.default_rng([seed, 5])
    phantom = make_two_body_phantom(seed, 36.0, 30.0)
    poses = Poses(random_rotations(count, rng), rng.normal(0, 3, (count, 2)))
    label = rng.permutation(count) % 2
    turns = np.outer(label, [0.0, TURN, 0.0])
    motion = SimulatedMotion(turns, np.zeros((count, 3)), phantom.fulcrum_A)
    particles = make_particles(folder, poses, BOX, PIXEL, (8000.0, 20000.0), 1, rng)
    signal = list(project(phantom, particles, poses, motion, 80.0))
    gain = np.sqrt(0.05 / ift(signal[0], BOX, 2).var(axis=(1, 2)).mean())
    write_stack(
        particles, (gain * a + b for a, b in zip(signal, noise_ft(particles, "coloured", rng), strict=True)), False
    )
    turned = (phantom.body_b - phantom.fulcrum_A) @ rotation_exp(np.array([[0.0, TURN, 0.0]]))[0].T + phantom.fulcrum_A
    mask = Volume(soft_mask(np.concatenate([phantom.body_b, turned]), BOX, PIXEL), PIXEL)
    return Job(particles, mask, RefineSpec()), label


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, np.ndarray, Step]:
    job, label = two_conformers(tmp_path_factory.mktemp("conformers"))
    return job, label, next(step for step in start(job, BACKEND) if isinstance(step, Step))


@pytest.fixture(scope="module")
def images(data: tuple[Job, np.ndarray, Step]) -> ClassificationImages:
    job, _, first = data
    return classification_images(job, first, first, BACKEND)


@pytest.fixture(scope="module")
def true_maps(data: tuple[Job, np.ndarray, Step], images: ClassificationImages) -> np.ndarray:
    """References of the true classes, from all images."""
    _, label, _ = data
    posterior, sums = np.eye(2)[label], {}
    for half in (1, 2):
        rows = reading_order(images.particles, half)
        sums[half] = result_of(class_sums(images, posterior[rows], rows, 16))
    return FoldSums(sums, dict.fromkeys(sums, 300)).maps(images)


def test_the_values_are_those_of_plain_numpy(images: ClassificationImages, true_maps: np.ndarray) -> None:
    rows, samples = reading_order(images.particles, 1)[:20], samples_to_classify(images, RESOLUTION_A)
    volumes = class_volumes(images, true_maps, samples)
    found = result_of(class_values(images, volumes, samples, rows, empty_class=True))
    windows = result_of(images.load(rows))
    rotation, shifts = windows.views(images.window)
    turn = np.exp(2j * np.pi / images.window.size * (shifts[:, :1] * samples.kx + shifts[:, 1:] * samples.ky))
    W = windows.data[:, samples.ky, samples.kx] * turn
    w = windows.weight[:, samples.ky, samples.kx].astype(np.float64)
    for at, volume in enumerate(volumes):
        S = project_slices_quadratic(volume, rotation, samples)[0]
        expected = (-2 * (W.conj() * S).real + w * np.abs(S) ** 2).sum(axis=1)
        np.testing.assert_allclose(found[:, at], expected, rtol=2e-4, atol=2e-3)
    assert np.all(found[:, 2] == 0)


def test_no_density_has_the_value_zero(images: ClassificationImages, true_maps: np.ndarray) -> None:
    samples = samples_to_classify(images, RESOLUTION_A)
    volumes = class_volumes(images, np.zeros_like(true_maps[:1]), samples)
    assert np.all(result_of(class_values(images, volumes, samples, reading_order(images.particles, 1)[:9])) == 0)


def test_the_sums_are_those_of_plain_numpy(images: ClassificationImages) -> None:
    rows, limit = reading_order(images.particles, 2)[:20], 9
    posterior = np.random.default_rng(1).dirichlet([1.0, 1.0, 1.0], len(rows))
    windows = result_of(images.load(rows))
    rotation, shifts = windows.views(images.window)
    for at, own in enumerate(result_of(class_sums(images, posterior, rows, limit))):
        numerator, denominator = np.zeros_like(own.numerator), np.zeros_like(own.denominator)
        share = posterior[:, at].astype(np.float32)
        every = np.arange(len(rows))
        backproject_images(
            numerator, denominator, rotation, -shifts, windows.data, windows.weight, limit, every, share
        )  # fmt: skip
        np.testing.assert_allclose(own.numerator, numerator, atol=1e-4 * np.abs(numerator).max())
        np.testing.assert_allclose(own.denominator, denominator, atol=1e-4 * denominator.max())


def test_posteriors_add_up_to_one_and_follow_the_formula() -> None:
    rng = np.random.default_rng(0)
    values, shares = rng.normal(0, 3, (50, 4)), np.array([0.1, 0.2, 0.3, 0.4])
    posterior, log_likelihood = posterior_of(values, shares, 2.0)
    plain = shares * np.exp(-values / 2)
    np.testing.assert_allclose(posterior, plain / plain.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_likelihood, np.log(plain.sum(axis=1)))
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    large, _ = posterior_of(1e5 * values, shares)
    assert np.isfinite(large).all()


def test_the_temperature_gives_the_perplexity() -> None:
    values, shares = np.random.default_rng(0).normal(0, 30, (200, 3)), np.full(3, 1 / 3)
    for wanted in (1.5, 2.7):
        found = posterior_of(values, shares, temperature_for(values, shares, wanted))[0]
        assert perplexity_of(found) == pytest.approx(wanted, rel=1e-4)
    assert temperature_for(values / 1000, shares, 1.5) == 1


def test_classes_can_be_permuted(images: ClassificationImages) -> None:
    rows = reading_order(images.particles, 1)
    posterior = np.random.default_rng(2).dirichlet([1.0, 1.0, 1.0], len(rows))
    order = [2, 0, 1]
    sums, turned = (result_of(class_sums(images, p, rows, 10)) for p in (posterior, posterior[:, order]))
    maps, others = (class_maps(images, s, COUNT, len(rows)) for s in (sums, turned))
    np.testing.assert_allclose(others, maps[order], atol=1e-5 * np.abs(maps).max())


def test_one_class_is_the_plain_reconstruction(
    data: tuple[Job, np.ndarray, Step], images: ClassificationImages
) -> None:
    job, _, first = data
    (result,) = (
        event
        for event in classify(job, first, first, ClassificationSettings(1), BACKEND)
        if isinstance(event, Classification)
    )
    assert np.all(result.posterior == 1)
    assert result.maps[0] is not None
    for half in (1, 2):
        rows = reading_order(images.particles, half)
        (sums,) = result_of(class_sums(images, np.ones((len(rows), 1)), rows, images.window.size // 2))
        plain = solve_map(sums, PIXEL, regularisation_from_fsc(images.fsc.value), 1, LEAST_SHARE)
        plain = with_coarse_shells(plain, Volume(images.coarse[half - 1], PIXEL), 1)
        found = result.maps[0].body.half_maps.half(half).data
        np.testing.assert_allclose(found, plain.data, atol=1e-4 * np.abs(plain.data).max())


def test_folds_and_random_starts_are_balanced() -> None:
    half = np.repeat([1, 2], [31, 40])
    fold = folds_of(half, 3)
    assert np.array_equal(fold // 2 + 1, half)
    assert np.bincount(fold).tolist() == [16, 15, 20, 20]
    sizes = np.array([random_posterior(fold, 3, 4, [3, 1])[fold == number].sum(axis=0) for number in range(4)])
    assert np.ptp(sizes[:, :3], axis=1).max() <= 1
    assert np.all(sizes[:, 3] == 0)


def test_two_conformers_are_told_apart(data: tuple[Job, np.ndarray, Step]) -> None:
    job, label, first = data
    events = list(classify(job, first, first, ClassificationSettings(2, starts=3), BACKEND))
    assert isinstance(events[0], Progress)
    result = events[-1]
    assert isinstance(result, Classification)
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert adjusted_rand_index(label, result.label) >= 0.88
    assert result.converged
    assert np.all(result.effective_sizes < COUNT)
    np.testing.assert_allclose(np.trace(result.confusion) / 2, 0.96, atol=0.04)
    found = to_dataset(result)
    assert found.sizes["class"] == 2
    assert np.array_equal(found["label"], result.label)
    assert np.isfinite(found["half_maps"]).all()


def test_it_starts_from_maps(
    data: tuple[Job, np.ndarray, Step], images: ClassificationImages, true_maps: np.ndarray
) -> None:
    """In the order of the maps, on any common scale."""
    job, label, first = data
    box = [np.zeros((BOX,) * 3, np.float32) for _ in true_maps]
    x, y, z = (c + BOX // 2 for c in images.window.centre)
    middle, size = (z, y, x), images.window.size
    for whole, one in zip(box, true_maps, strict=True):
        low = [max(0, c - size // 2) for c in middle]
        part = [slice(a, min(BOX, c - size // 2 + size)) for a, c in zip(low, middle, strict=True)]
        inner = [slice(p.start - c + size // 2, p.stop - c + size // 2) for p, c in zip(part, middle, strict=True)]
        whole[tuple(part)] = one[tuple(inner)]
    settings = ClassificationSettings(2, annealing=0, max_iterations=2, resolution_A=RESOLUTION_A)
    maps = [Volume(7 * one, PIXEL) for one in box]
    result = list(classify(job, first, first, settings, BACKEND, maps))[-1]
    assert isinstance(result, Classification)
    assert np.mean(result.label == label + 1) > 0.95
    with pytest.raises(InputError, match="1 maps to start from, but 2 classes"):
        start_maps(images, maps[:1], settings, RESOLUTION_A)
    with pytest.raises(InputError, match="no density inside the mask"):
        start_maps(images, [Volume(0 * one, PIXEL) for one in box], settings, RESOLUTION_A)


def test_a_class_without_a_half_set_gets_no_maps(images: ClassificationImages) -> None:
    posterior = np.zeros((COUNT, 2))
    posterior[:, 0] = 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maps = list(class_half_maps(images, posterior))[-1]
    assert isinstance(maps, tuple)
    assert maps[0] is not None
    assert maps[1] is None
    assert any("class 2 holds no particle of half set 1 and 2" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 31}, "31 classes need at least 310 particles in each half set"),
        ({"classes": 0}, "classes=0"),
        ({"switching": 1.5}, "switching=1.5"),
        ({"resolution_A": 6.9}, "resolution_A=6.9"),
        ({"starts": 0}, "starts=0"),
    ],
)
def test_bad_settings_are_refused(data: tuple[Job, np.ndarray, Step], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_settings(replace(ClassificationSettings(), **change), data[0].particles)


def test_the_number_of_classes_is_the_smallest_that_is_good_enough() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 20, 400)
    one, two, three = (image + gain + rng.normal(0, 0.5, 400) for gain in (0.0, 1.5, 1.55))
    numbers = np.array([1, 2, 3])
    curve = choose_class_number(numbers, np.stack([one, two, three]))
    assert curve.chosen == 2
    assert curve.gain[1] == pytest.approx((two - one).mean())
    assert curve.error[1] == pytest.approx((two - one).std(ddof=1) / 20)
    assert choose_class_number(numbers, np.stack([one, one + 0.1, one + 0.15])).chosen == 1
