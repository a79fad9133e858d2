"""Iterations inside the window against those over whole images, the cache of windows, and whole half maps."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend, get_backend
from lrcore.maps.body_maps import MapsAmidStart, body_in_box
from lrcore.maps.fsc import masked_fsc
from lrcore.particles.subsets import select_step_particles
from lrcore.records import Step
from lrcore.refinement import iteration, window_cache
from lrcore.refinement.iteration import iterate, run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.whole_maps import has_whole_maps, make_whole_maps
from lrcore.refinement.window_cache import WindowCache, WindowSelection
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from lrcore.testing import rotation_error_deg
from tests.fakes import same_bits

BOX, PIXEL = 64, 3.0
SPEC = RefineSpec(rotation_prior_sd_deg=4, shift_prior_sd_A=2, shift_extent_A=5)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("window")
    return make_benchmark_data(folder, 240, SPEC, box=BOX, pixel_size_A=PIXEL, radius_px=14.0, distinct=240).job


@pytest.fixture(scope="module")
def first(job: Job) -> Step:
    return synthetic_start(job)


def backend(cache: WindowCache | None = None) -> Backend:
    return replace(get_backend("cpu", 2), windows=cache)


def iterations(job: Job, first: Step, count: int, on: Backend) -> list[Step]:
    steps = [first]
    for _ in range(count):
        steps += [event for event in run_iteration(job, first, steps[-1], on) if isinstance(event, Step)]
    return steps[1:]


@pytest.fixture(scope="module")
def in_window(job: Job, first: Step) -> list[Step]:
    return iterations(job, first, 2, backend(WindowCache()))


def test_maps_and_poses_are_those_of_whole_images(
    job: Job, first: Step, in_window: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iteration, "window_of", lambda *_: None)
    whole = iterations(job, first, 2, backend())
    for a, b in zip(in_window, whole, strict=True):
        assert a.body is not None
        assert len(a.body.held) < BOX
        assert b.body is None
        sd = np.degrees(np.sqrt(np.trace(b.expectation.covariance[:, :3, :3], axis1=1, axis2=2)))
        off = rotation_error_deg(a.expectation.poses, b.expectation.poses) / sd
        assert np.median(off) < 0.1
        assert a.history[-1].resolution_corrected_A == pytest.approx(b.history[-1].resolution_corrected_A, rel=0.05)
        for half in (1, 2):
            one, other = body_in_box(a.body, BOX, half).data, b.half_maps.half(half).data
            shells = slice(1, int(BOX * PIXEL / a.history[-1].resolution_corrected_A))
            mutual = masked_fsc(one, other, job.mask.data)[shells]
            assert mutual.mean() > 0.95  # at the limit of resolution the poses' last bits decide
            assert mutual[: len(mutual) // 2].min() > 0.97
            inside = job.mask.data
            ratio = float((one * other * inside).sum() / (other**2 * inside).sum())
            assert ratio == pytest.approx(1, abs=0.04)
        assert np.median(np.abs(a.noise[:, :, 6:-4] / b.noise[:, :, 6:-4] - 1)) < 0.03


def test_some_particles_take_their_windows_from_the_cache_of_all(
    job: Job, first: Step, in_window: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, rows, cut = WindowCache(), np.arange(10, 200, 3), []
    last = iterations(job, first, 1, backend(cache))[0]
    some = replace(job, particles=job.particles.select(rows))
    begun, continued = select_step_particles(first, rows), select_step_particles(last, rows)
    expected = iterations(some, begun, 1, backend(WindowCache()))[0]
    make = window_cache.cut_images
    monkeypatch.setattr(window_cache, "cut_images", lambda *given: cut.append(len(given[1])) or make(*given))
    found = iterations(some, begun, 1, backend(WindowSelection(cache, rows)))[0]
    assert cut == []
    assert same_bits(found.expectation, expected.expectation)
    assert np.array_equal(found.noise, expected.noise)
    run_on(some, begun, continued, WindowSelection(cache, rows))
    assert cut == []
    other = replace(some, spec=SPEC.model_copy(update={"subtract_outside": False}))
    iterations(other, begun, 1, backend(WindowSelection(cache, rows)))
    assert sum(cut) == len(rows), "other images are cut"
    cut.clear()
    assert same_bits(run_on(job, first, last, cache).expectation, in_window[1].expectation)
    assert cut == [], "the run's windows are as they were"


def run_on(job: Job, first: Step, last: Step, cache: WindowCache) -> Step:
    """The step after another one."""
    return [event for event in run_iteration(job, first, last, backend(cache)) if isinstance(event, Step)][-1]


def test_a_cache_changes_nothing(job: Job, first: Step, in_window: list[Step], tmp_path: Path) -> None:
    """In memory, in a scratch file, and none: the same bits."""
    in_scratch, none = WindowCache(0, tmp_path), WindowCache(0)
    for cache, place in ((in_scratch, "scratch"), (none, "none")):
        found = iterations(job, first, 2, backend(cache))[-1]
        assert cache.place == place
        assert np.array_equal(found.expectation.poses.rotation, in_window[-1].expectation.poses.rotation)
        assert np.array_equal(found.noise, in_window[-1].noise)
    assert list(tmp_path.iterdir()) == []


def test_images_are_read_once(job: Job, first: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    cut = window_cache.cut_images

    def counted(particles, rows, *rest):  # type: ignore[no-untyped-def]
        read.append(len(rows))
        return cut(particles, rows, *rest)

    monkeypatch.setattr(window_cache, "cut_images", counted)
    iterations(job, first, 2, backend(WindowCache()))
    assert sum(read) == len(job.particles)
    mask = replace(job.mask, data=job.mask.data.copy())
    on = backend(WindowCache())
    iterations(job, first, 1, on)
    iterations(replace(job, mask=mask), first, 1, on)
    assert sum(read) == 3 * len(job.particles), "another mask: cut anew"


@pytest.mark.parametrize(
    "change", [{"recenter_shifts": True, "recenter_rotations": True}, {"per_particle_scale": True}]
)
def test_what_moves_windows_is_followed(job: Job, first: Step, change: dict[str, bool]) -> None:
    """Re-centred poses and estimated amplitudes: as with windows that are cut in each iteration."""
    changed = replace(job, spec=job.spec.model_copy(update=change))
    kept, anew = (iterations(changed, first, 3, backend(cache))[-1] for cache in (WindowCache(), None))
    assert kept.body is not None
    assert np.array_equal(kept.expectation.poses.rotation, anew.expectation.poses.rotation)


def test_a_full_disk_is_said_and_does_no_harm(
    job: Job, first: Step, in_window: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(window_cache.os, "posix_fallocate", full)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = iterations(job, first, 2, backend(WindowCache(0, tmp_path)))[-1]
    assert any("no room for" in str(one.message) and "--scratch" in str(one.message) for one in said)
    assert np.array_equal(found.expectation.poses.rotation, in_window[-1].expectation.poses.rotation)


def test_whole_maps_are_of_whole_images_and_change_no_iteration(job: Job, first: Step, in_window: list[Step]) -> None:
    step = in_window[0]
    assert isinstance(step.half_maps, MapsAmidStart)
    assert not has_whole_maps(step)
    *_, whole = make_whole_maps(job, step, backend())
    assert isinstance(whole, Step)
    assert has_whole_maps(whole)
    kinds = {"unmasked", "spherical", "loose", "tight", "masked", "randomised", "corrected"}
    assert set(whole.fsc) == kinds
    assert set(step.fsc) == {"masked", "randomised", "corrected"}
    around = 1 - job.mask.data
    for half in (1, 2):
        to_start = masked_fsc(whole.half_maps.half(half).data, first.half_maps.half(half).data, around)
        assert to_start[1:8].mean() > 0.7, "what was subtracted from the windows is in the whole images"
        inside = masked_fsc(whole.half_maps.half(half).data, step.half_maps.half(half).data, job.mask.data)
        assert inside[1:12].min() > 0.9
    *_, after = run_iteration(job, first, whole, backend())
    assert np.array_equal(after.expectation.poses.rotation, in_window[1].expectation.poses.rotation)


def test_maps_in_between_are_those_of_the_start_with_the_body(job: Job, first: Step, in_window: list[Step]) -> None:
    step = in_window[0]
    far = np.ones((BOX,) * 3, bool)
    assert step.body is not None
    size = len(step.body.held)
    middle = [c + BOX // 2 for c in step.body.centre[::-1]]
    far[tuple(slice(m - size // 2, m + size // 2 + 1) for m in middle)] = False
    assert np.array_equal(step.half_maps.first.data[far], first.half_maps.first.data[far])
    inside = job.mask.data == 1
    body = body_in_box(step.body, BOX, 1).data
    assert np.allclose(step.half_maps.first.data[inside], body[inside], atol=1e-5 * np.abs(body).max())


def test_the_last_step_of_a_run_has_whole_maps(job: Job, first: Step) -> None:
    short = replace(job, spec=job.spec.model_copy(update={"max_iterations": 2}))
    steps = [event for event in iterate(short, first, first, backend()) if isinstance(event, Step)]
    assert [has_whole_maps(step) for step in steps] == [False, True]
    assert steps[-1].body is not None
