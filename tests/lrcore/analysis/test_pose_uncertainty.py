"""Draws from a posterior have its moments; they look at the other half set's map alone; what they say is kept whole."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lrcore.analysis import pose_uncertainty as module
from lrcore.analysis.pose_uncertainty import (
    ProposalDistribution,
    Uncertainty,
    sample_posterior,
    student_t_draws,
    uncertainty,
)
from lrcore.compute.backend import Backend, get_backend
from lrcore.errors import InputError
from lrcore.kernels.local_search import SearchLimits
from lrcore.records import HalfMaps, Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.schema import validate
from lrcore.results.store import MemoryStore
from lrcore.results.tree import uncertainty_dataset
from lrcore.results.verification import verify_run
from lrcore.results.zarr_store import Store
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from tests.lrcore.refinement.test_memory import with_short

Float64 = np.ndarray
SD = np.array([0.02, 0.03, 0.025, 0.4, 0.5])
FREE = SearchLimits(1.0, 20.0, np.inf, np.inf)


def drawn(score: Callable[[Float64], Float64], limits: SearchLimits = FREE, count: int = 4) -> tuple[Float64, ...]:
    """What is drawn about θ = 0 with covariance diag(SD²) where −log likelihood is score(θ)."""
    kernels = SimpleNamespace(evaluate_likelihood=lambda *arguments: score(arguments[6]))
    backend: Any = SimpleNamespace(kernels=kernels, to_device=lambda rows: rows)
    frame: Any = SimpleNamespace(volume=None, samples=None, lever=None, limits=limits)
    about = ProposalDistribution(np.zeros((count, 5)), np.tile(np.diag(SD**2), (count, 1, 1)))
    blank: Any = np.zeros((count, 1))
    return sample_posterior(blank, blank, frame, np.tile(np.eye(3), (count, 1, 1)), about, backend)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many draws that chance is small."""
    monkeypatch.setattr(module, "DRAWS", 8192)


@pytest.mark.usefixtures("many")
def test_moments_of_a_gaussian_that_is_wider_and_elsewhere() -> None:
    middle, wide = np.array([0.6, -0.4, 0.2, 0.5, -0.7]) * SD, 1.4 * SD
    mean, second, ess = drawn(lambda theta: 0.5 * (((theta - middle) / wide) ** 2).sum(axis=-1))
    assert np.allclose(mean, middle, atol=0.06 * SD)
    scaled = second / np.outer(SD, SD)
    expected = np.diag((wide / SD) ** 2) + np.outer(middle / SD, middle / SD)
    assert np.abs(scaled - expected).max() < 0.2
    assert np.all(ess > 0.2 * module.DRAWS)


@pytest.mark.usefixtures("many")
def test_moments_of_two_modes() -> None:
    apart = np.array([4.0, 0, 0, 0, 0]) * SD

    def score(theta: Float64) -> Float64:
        each = [-0.5 * (((theta - at) / SD) ** 2).sum(axis=-1) for at in (0 * SD, apart)]
        return -np.logaddexp(*each)

    _, second, _ = drawn(score)
    assert np.allclose(second[:, 0, 0] / SD[0] ** 2, 1 + 16 / 2, rtol=0.25)
    assert np.allclose(np.einsum("nii->ni", second)[:, 1:] / SD[1:] ** 2, 1, rtol=0.2)


@pytest.mark.usefixtures("many")
def test_the_prior_and_the_extents_are_those_of_the_search() -> None:
    _, second, _ = drawn(lambda theta: np.zeros(theta.shape[:2]), SearchLimits(1.0, 20.0, 0.02, 0.4))
    sd = np.sqrt(np.einsum("nii->ni", second))
    assert np.allclose(sd, [0.02, 0.02, 0.02, 0.4, 0.4], rtol=0.1)
    _, second, _ = drawn(lambda theta: np.zeros(theta.shape[:2]), SearchLimits(0.03, 0.5, np.inf, np.inf))
    assert np.all(np.einsum("nii->n", second[:, :3, :3]) < 0.03**2)
    assert np.all(np.einsum("nii->n", second[:, 3:, 3:]) < 0.5**2)


def test_students_density_is_a_density() -> None:
    z, density = student_t_draws(4096, 0)
    gaussian = -0.5 * (z**2).sum(axis=1) - 2.5 * np.log(2 * np.pi)
    assert np.mean(np.exp(gaussian - density)) == pytest.approx(1.0, abs=0.02)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Step, Step]:
    spec = RefineSpec(rotation_extent_deg=6, shift_extent_A=6, initial_lowpass_A=12.0, max_align_resolution_A=12.0)
    job = make_benchmark_data(
        tmp_path_factory.mktemp("work"), 96, spec, box=32, pixel_size_A=4.0, radius_px=11.0, snr=0.5, distinct=48
    ).job
    first = synthetic_start(job)
    *_, step = run_iteration(job, first, first, get_backend("cpu", 1))
    assert isinstance(step, Step)
    return job, first, step


def asked(searched: tuple[Job, Step, Step], backend: Backend | None = None, step: Step | None = None) -> Uncertainty:
    job, first, last = searched
    *_, found = uncertainty(job, first, step or last, backend or get_backend("cpu", 1))
    assert isinstance(found, Uncertainty)
    return found


@pytest.mark.slow
def test_images_are_asked_with_the_map_of_the_other_half_set_alone(searched: tuple[Job, Step, Step]) -> None:
    job, _, last = searched
    assert last.body is not None
    maps = last.body.half_maps
    noise = np.random.default_rng(3).normal(size=maps.first.data.shape).astype(np.float32)
    spoilt = replace(last.body, half_maps=HalfMaps(replace(maps.first, data=noise), maps.second))
    poisoned = replace(last, body=spoilt)
    before, after, first = asked(searched), asked(searched, step=poisoned), job.particles.half == 1
    assert np.array_equal(before.covariance[first], after.covariance[first])
    assert not np.any(np.all(before.covariance[~first] == after.covariance[~first], axis=(1, 2)))
    assert np.all(before.ess > 5)
    assert np.all(np.linalg.eigvalsh(before.covariance)[:, 0] > 0)


def test_short_memory_changes_nothing(searched: tuple[Job, Step, Step]) -> None:
    backend = replace(get_backend("cpu", 1), batch_bytes=32 * 4 * 32**2)
    whole = asked(searched, backend)
    with pytest.warns(RuntimeWarning, match="memory is short"):
        found = asked(searched, with_short(backend, "evaluate_likelihood", 2))
    assert np.allclose(found.covariance, whole.covariance, rtol=1e-6)


def test_few_draws_are_drawn_again(searched: tuple[Job, Step, Step], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUNDS", 1)
    once = asked(searched)
    monkeypatch.setattr(module, "MAX_ROUNDS", 3)
    again = asked(searched)
    assert np.all(again.ess >= once.ess)
    assert np.array_equal(
        again.covariance[once.ess >= module.MIN_EFFECTIVE_DRAWS],
        once.covariance[once.ess >= module.MIN_EFFECTIVE_DRAWS],
    )


def test_a_start_has_none(searched: tuple[Job, Step, Step]) -> None:
    with pytest.raises(InputError, match="iteration 0 has the input poses"):
        asked(searched, step=searched[1])


@pytest.mark.slow
def test_it_is_kept_with_the_run(searched: tuple[Job, Step, Step], tmp_path: Path) -> None:
    job, first, last = searched
    data = uncertainty_dataset(job.particles, last, asked(searched))
    memory, disk = MemoryStore(job), Store.create(tmp_path / "run.zarr", job)
    for store in (memory, disk):
        start = store.append(first, None, job)
        node = store.append(last, start.id, job)
        assert store.uncertainty(node.id) is None
        assert "uncertainty" not in store.results().children
        store.store_uncertainty(node.id, data)
        store.store_uncertainty(node.id, data)
        kept = store.uncertainty(node.id)
        assert kept is not None
        assert kept.identical(data)
        validate(store.results())
        assert store.results()["uncertainty"].to_dataset().identical(data)
        assert "uncertainty" not in store.results(start.id).children
    disk.close()
    again = Store.open(tmp_path / "run.zarr", write=False)
    assert again.uncertainty(node.id) is not None
    assert verify_run(tmp_path / "run.zarr").damaged == {}
    with pytest.raises(InputError, match="open for reading only"):
        again.store_uncertainty(node.id, data)
    (file,) = (tmp_path / "run.zarr" / "uncertainty").glob("0001-*")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged .its checksum differs. and left out"):
        assert again.uncertainty(node.id) is None
    assert [name for name in verify_run(tmp_path / "run.zarr").damaged if name.startswith("uncertainty/")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"non_uniform": True},
        {"mask_mode": "dynamic"},
        {"prior": "none"},
        {"per_particle_scale": True},
        {"recenter_rotations": True, "recenter_shifts": True},
    ],
    ids=str,
)
def test_every_kind_of_search(searched: tuple[Job, Step, Step], changes: dict[str, Any]) -> None:
    job, first, _ = searched
    job = replace(job, spec=RefineSpec(**{**job.spec.model_dump(), **changes}))
    backend = get_backend("cpu", 1)
    *_, before = run_iteration(job, first, first, backend)
    assert isinstance(before, Step)
    *_, last = run_iteration(job, first, before, backend)
    assert isinstance(last, Step)
    *_, found = uncertainty(job, first, last, backend, before)
    assert isinstance(found, Uncertainty)
    assert np.all(np.linalg.eigvalsh(found.covariance)[:, 0] > 0)
    assert np.median(found.ess) > module.MIN_EFFECTIVE_DRAWS
    ratio = np.linalg.det(found.covariance) / np.linalg.det(last.expectation.covariance)
    assert 0.3 < np.median(ratio) ** 0.1 < 3.0, "in SDs, of the size that the search gives"
