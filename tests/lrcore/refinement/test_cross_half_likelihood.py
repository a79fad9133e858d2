"""What images say under the map of the other half set: nothing of their own map, a balance of likelihood and prior."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore.compute.backend import Backend, get_backend
from lrcore.compute.timing import StageTimer
from lrcore.compute.workers import LocalWorkers
from lrcore.motion.fit import MIN_IMAGES
from lrcore.records import FLAG_BAD_IMAGE, HalfMaps, Progress, Step
from lrcore.refinement import cross_half_likelihood
from lrcore.refinement.iteration import (
    IterationContext,
    RunInput,
    _cross_half_likelihoods,
    _iteration_context,
    _with_swapped_half_maps,
    cross_half_context,
    run_iteration,
)
from lrcore.refinement.job import Job
from lrcore.refinement.motion_prior import rows_for_motion_estimate
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.search import poses_to_theta
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from tests.fakes import same_bits
from tests.lrcore.ranges import BOX, many_ranges, with_small_batches  # noqa: F401

COUNT = 2 * MIN_IMAGES + 120
SPEC = RefineSpec(prior="motion", initial_lowpass_A=12.0, max_align_resolution_A=12.0)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Step, Step]:
    folder = tmp_path_factory.mktemp("work")
    job = make_benchmark_data(folder, COUNT, SPEC, box=BOX, pixel_size_A=4.0, radius_px=11.0, snr=0.5, distinct=96).job
    first = synthetic_start(job)
    return job, first, stepped(job, first, first)


def stepped(job: Job, first: Step, last: Step, backend: Backend | None = None) -> Step:
    *_, step = run_iteration(job, first, last, backend or with_small_batches(get_backend("cpu", 1)))
    assert isinstance(step, Step)
    return step


def asked(scene: IterationContext, rows: list[np.ndarray]) -> list[cross_half_likelihood.QuadraticLikelihood]:
    going = _cross_half_likelihoods(scene, rows)
    try:
        while True:
            assert isinstance(next(going), Progress)
    except StopIteration as end:
        return end.value


@pytest.mark.slow
def test_where_the_images_balance_their_prior_the_pose_is_most_probable(searched: tuple[Job, Step, Step]) -> None:
    job, first, last = searched
    backend = with_small_batches(get_backend("cpu", 1))
    scene, rows = cross_half_context(job, first, last, backend), rows_for_motion_estimate(job.particles, last, job.spec)
    for some, said in zip(rows, asked(scene, rows), strict=True):
        given = job.particles.poses.select(some)
        limits, apix = scene.geometry.limits, scene.geometry.pixel_size_A
        units = np.outer(*[np.array([1, 1, 1, apix, apix])] * 2)
        prior = limits.precision(given.rotation) / units
        assert np.linalg.eigvalsh(said.precision).min() > -1e-6 * np.abs(said.precision).max()
        pose = np.linalg.solve(said.precision + prior, said.information[..., None])[..., 0]
        # Of the own map the pose was found; under the other it is another one, not far in terms of its own width.
        inside = np.linalg.norm(pose[:, :3], axis=1) < limits.rotation
        assert inside.mean() > 0.95
        width = np.linalg.inv(said.precision + prior)
        off = pose - _theta(scene, last, some)
        z = np.sqrt(np.einsum("ni,nij,nj->n", off, np.linalg.inv(width), off) / 5)
        assert 0.05 < np.median(z) < 1.5


def _theta(scene: IterationContext, last: Step, rows: np.ndarray) -> np.ndarray:
    """Found poses from the input ones, rad and Å."""
    given, found = scene.job.particles.poses.select(rows), last.expectation.poses.select(rows)

    class Frame:
        fulcrum_A = np.array(scene.geometry.fulcrum_A)
        limits = scene.geometry.limits
        pixel_size_A = scene.geometry.pixel_size_A

    return poses_to_theta(given, found, Frame) * np.repeat([1.0, Frame.pixel_size_A], (3, 2))


@pytest.mark.parametrize("whole_images", [True, False])
def test_it_is_nothing_of_their_own_map(searched: tuple[Job, Step, Step], whole_images: bool) -> None:
    """Over whole images and in the window, where the half maps of the body are read."""
    job, first, last = searched
    assert last.body is not None
    maps = last.body.half_maps
    noise = np.random.default_rng(3).normal(size=maps.first.data.shape).astype(np.float32)
    spoilt = replace(last.body, half_maps=HalfMaps(replace(maps.first, data=noise), maps.second))
    poisoned = replace(last, body=spoilt)
    rows = rows_for_motion_estimate(job.particles, last, job.spec)
    run = RunInput(job, first, with_small_batches(get_backend("cpu", 1)))
    contexts = [_iteration_context(run, step, StageTimer(), whole_images) for step in (last, poisoned)]
    assert all((context.window is None) == whole_images for context in contexts)
    before, after = (asked(_with_swapped_half_maps(context), rows) for context in contexts)
    assert same_bits(before[0], after[0])
    assert not np.allclose(before[1].information, after[1].information)


@pytest.mark.slow
def test_a_crew_learns_the_same(searched: tuple[Job, Step, Step]) -> None:
    job, first, last = searched
    alone = stepped(job, first, last)
    assert alone.search.covariance is not None, "it has learned"
    assert "learn" in alone.history[-1].seconds
    with LocalWorkers(2, "cpu") as crew:
        together = stepped(job, first, last, with_small_batches(replace(get_backend("cpu", 1), workers=crew)))
    assert alone.search == together.search
    assert same_bits(alone.expectation.poses, together.expectation.poses)


def test_images_that_are_none_are_not_asked(searched: tuple[Job, Step, Step]) -> None:
    job, _, last = searched
    flags = last.expectation.flags.copy()
    flags[::7] = FLAG_BAD_IMAGE
    marked = replace(last, expectation=replace(last.expectation, flags=flags))
    rows = np.concatenate(rows_for_motion_estimate(job.particles, marked, job.spec))
    assert set(rows) == set(np.nonzero(flags != FLAG_BAD_IMAGE)[0])
    flags[: COUNT // 2] = FLAG_BAD_IMAGE
    few = replace(last, expectation=replace(last.expectation, flags=flags))
    assert rows_for_motion_estimate(job.particles, few, job.spec) == [], "too few are left"


def test_nothing_is_asked_where_nothing_is_learned(searched: tuple[Job, Step, Step]) -> None:
    job, first, last = searched
    given = replace(job, spec=RefineSpec(**{**SPEC.model_dump(), "prior": "gaussian"}))
    step = stepped(given, first, last)
    assert step.search.covariance is None
    assert "learn" not in step.history[-1].seconds
