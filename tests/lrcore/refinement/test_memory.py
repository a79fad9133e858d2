"""Memory that runs short: the batch is halved, the result stays; and an iteration holds no more for more images."""

import multiprocessing
import re
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore.analysis.held_out_likelihood import held_out
from lrcore.analysis.input_audit import audit_input
from lrcore.compute.backend import Backend, get_backend
from lrcore.compute.timing import peak_memory_MB
from lrcore.errors import InputError
from lrcore.particles.image_stream import map_batches
from lrcore.records import Step
from lrcore.refinement import half_set_pass
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.memory import estimate_memory
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import reconstruct
from lrcore.refinement.subtraction import subtracted_images
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from lrwidgets.bench.many_particles import job_with_repeated_images
from tests.fakes import same_bits

BOX = 32
WINDOW = 30


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    spec = RefineSpec(rotation_extent_deg=6, shift_extent_A=6, initial_lowpass_A=12.0, max_align_resolution_A=12.0)
    folder = tmp_path_factory.mktemp("work")
    return make_benchmark_data(folder, 128, spec, box=BOX, pixel_size_A=4.0, radius_px=11.0, snr=0.5, distinct=64).job


def stepped(job: Job, backend: Backend) -> Step:
    *_, step = run_iteration(job, synthetic_start(job), synthetic_start(job), backend)
    assert isinstance(step, Step)
    return step


class Short:
    """A function that has no room at some of its calls, counted from 1."""

    def __init__(self, function: Callable[..., Any], *calls: int) -> None:
        self.function, self.calls, self.count = function, calls, 0

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        if self.count in self.calls:
            raise MemoryError("no room")
        return self.function(*arguments)


def with_short(backend: Backend, name: str, *calls: int) -> Backend:
    kernel = Short(getattr(backend.kernels, name), *calls)
    return replace(backend, kernels=replace(backend.kernels, **{name: kernel}))


def judged(job: Job, backend: Backend) -> Any:
    """Scores of two steps on held-out images."""
    first = synthetic_start(job)
    return held_out(first, (job, first), (job, stepped(job, get_backend("cpu", 1))), backend).score


def looked_at(job: Job, backend: Backend) -> Any:
    """How the half maps fit the images."""
    found = audit_input(job, synthetic_start(job), backend).hand_and_scale
    assert found is not None
    return found.given_log_likelihood, found.mirror_gain, found.scale_gain


def without_the_rest(job: Job, backend: Backend) -> Any:
    """The images without what lies outside the mask."""
    first = synthetic_start(job)
    return np.concatenate(list(subtracted_images(job, first, first, backend)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "call"),
    [
        ("compute_ctf", 1),
        ("whiten_windows", 2),
        ("search_lattice", 1),
        ("unpack_windows", 2),
        ("backproject_images", 2),
    ],
)
def test_a_step_goes_on_in_smaller_batches(job: Job, kernel: str, call: int) -> None:
    backend = replace(get_backend("cpu", 1), batch_bytes=32 * 4 * BOX**2)
    whole = stepped(job, backend)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = stepped(job, with_short(backend, kernel, call))
    told = [str(one.message) for one in said if "memory is short" in str(one.message)]
    box = WINDOW if kernel in ("search_lattice", "unpack_windows") else BOX
    assert told == (
        []
        if kernel == "backproject_images"
        else [f"memory is short: continuing with images of {box} px in batches of 16"]
    )
    assert np.allclose(found.expectation.poses.rotation, whole.expectation.poses.rotation, atol=1e-9)
    assert np.allclose(found.noise, whole.noise, rtol=1e-5)
    for a, b in ((found.half_maps.first, whole.half_maps.first), (found.half_maps.second, whole.half_maps.second)):
        assert np.abs(a.data - b.data).max() < 1e-6 * np.abs(b.data).max()


@pytest.mark.parametrize(
    ("kernel", "look"),
    [("whiten_windows", judged), ("correlate_with_model", looked_at), ("subtract_model", without_the_rest)],
)
def test_whoever_looks_at_images_goes_on_in_smaller_batches(
    job: Job, kernel: str, look: Callable[[Job, Backend], Any]
) -> None:
    backend = replace(get_backend("cpu", 1), batch_bytes=32 * 4 * BOX**2)
    whole = look(job, backend)
    with pytest.warns(RuntimeWarning, match="memory is short"):
        found = look(job, with_short(backend, kernel, 3))
    assert np.allclose(found, whole, rtol=1e-6, atol=1e-9)
    assert np.abs(whole).max() > 0


def test_a_reader_without_room(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = replace(get_backend("cpu", 1), batch_bytes=32 * 4 * BOX**2)
    look = Short(half_set_pass.map_batches.__globals__["StackReader"].read_with_finite_flags, 3)
    monkeypatch.setattr(
        "lrcore.particles.image_stream.StackReader.read_with_finite_flags", lambda *arguments: look(*arguments)
    )
    with pytest.warns(RuntimeWarning, match="memory is short"):
        sizes = list(map_batches(job.particles, np.arange(100), backend, lambda batch: len(batch.rows)))
    assert sum(sizes) == 100
    assert sizes[0] == 32
    assert set(sizes[1:]) == {16, 4}


def test_no_room_at_all_is_a_line(job: Job) -> None:
    backend = with_short(get_backend("cpu", 1), "whiten_windows", *range(1, 99))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match="too little memory for 8"):
            stepped(job, backend)
    assert [str(one.message).split()[-1] for one in said if "memory is short" in str(one.message)] == ["32", "16", "8"]


def test_no_room_to_insert_an_image_is_a_line(job: Job) -> None:
    backend = with_short(get_backend("cpu", 1), "backproject_images", *range(1, 99))
    with pytest.raises(InputError, match="too little memory to insert an image"):
        list(reconstruct(job.particles, 1, "C1", backend))


def peak_of(job: Job) -> tuple[float, float]:
    """Peak of memory before and after a step, MB, in a process of its own; a small step came before."""
    backend = replace(get_backend("cpu", 1), batch_bytes=128 * 4 * BOX**2)
    stepped(replace(job, particles=job.particles.select(np.arange(512))), backend)
    before = peak_memory_MB()
    stepped(job, backend)
    return before, peak_memory_MB()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_particles(tmp_path: Path) -> None:
    """1,000 and 6,000 of them, images repeated: apart from metadata, nothing. All images would be 20 MB more."""
    job, grown = job_with_repeated_images(tmp_path, 6000, BOX), []
    for n in (1000, 6000):
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            before, after = executor.submit(peak_of, fewer).result()
        grown.append(after - before)
    assert grown[1] - grown[0] < 5000 * 2048 / 2**20 + 4


@pytest.mark.slow
def test_the_estimate_is_near_the_peak(tmp_path: Path) -> None:
    job = make_benchmark_data(
        tmp_path, 256, RefineSpec(initial_lowpass_A=12.0), box=128, pixel_size_A=3.0, distinct=64
    ).job
    told = estimate_memory(job)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        base, peak = executor.submit(measured_peak, job).result()
    assert 0.5 < told.process_MB / (peak - base) < 2
    assert re.fullmatch(
        r"memory: about \d[\d,]* MB at the start, then about \d[\d,]* MB here \(images \d.*\)", told.sentence()
    )
    assert "each of 3 workers" in estimate_memory(job, workers=3).sentence()
    assert estimate_memory(job).volumes_MB > 5 * estimate_memory(replace(job, mask=smaller(job))).volumes_MB


def smaller(job: Job) -> Any:
    return replace(job.mask, data=job.mask.data[:64, :64, :64])


def measured_peak(job: Job) -> tuple[float, float]:
    base = peak_memory_MB()
    stepped(job, get_backend("cpu", 1))
    return base, peak_memory_MB()


def test_same_bits_whatever_was_short_before(job: Job) -> None:
    backend = get_backend("cpu", 1)
    assert same_bits(stepped(job, backend).half_maps, stepped(job, backend).half_maps)
