"""The same step by processes, by an executor and by dask's workers as in one process; lost workers; what they say."""

import builtins
import errno
import io
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.compute.task_tree import MergeTree
from lrcore.compute.workers import DaskWorkers, ExecutorWorkers, LocalWorkers, as_workers, connect_scheduler
from lrcore.errors import InputError
from lrcore.particles import image_stream
from lrcore.records import Progress, Step, Volume
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import reconstruct
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from tests.fakes import same_bits
from tests.lrcore.ranges import BOX, many_ranges, with_small_batches  # noqa: F401

COUNT = 320


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    spec = RefineSpec(rotation_extent_deg=6, shift_extent_A=6, initial_lowpass_A=12.0, max_align_resolution_A=12.0)
    folder = tmp_path_factory.mktemp("work")
    return make_benchmark_data(folder, COUNT, spec, box=BOX, pixel_size_A=4.0, radius_px=11.0, snr=0.5, distinct=64).job


@pytest.fixture(scope="module")
def here(job: Job) -> Step:
    return stepped(job)


@pytest.fixture(scope="module")
def alone(job: Job) -> Step:
    """In a process that finds its kernels compiled, as those of workers are: fresh code differs in the last bit."""
    for _ in range(2):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            step = executor.submit(stepped, job).result()
    return step


def stepped(job: Job, crew: Any = None, first: Step | None = None) -> Step:
    first = first or synthetic_start(job)
    *_, step = run_iteration(job, first, first, replace(with_small_batches(get_backend("cpu", 1)), workers=crew))
    assert isinstance(step, Step)
    return step


def assert_equal(found: Step, alone: Step) -> None:
    """Poses and all that is told of them to the bit, noise too, maps to 1e-6."""
    assert same_bits(found.expectation, alone.expectation)
    assert same_bits(found.noise, alone.noise)
    for a, b in ((found.half_maps.first, alone.half_maps.first), (found.half_maps.second, alone.half_maps.second)):
        assert np.abs(a.data - b.data).max() < 1e-6 * np.abs(b.data).max()
    assert alone.history[-1].angle_since_last_deg > 0.1


def test_ranges_are_whole_batches(job: Job) -> None:
    rows = np.arange(1000)
    found = image_stream.batch_ranges(rows, BOX, with_small_batches(get_backend("cpu", 1)))
    assert np.array_equal(np.concatenate(found), rows)
    assert len(found) == 31
    assert {len(one) % 16 for one in found[:-1]} == {0}
    assert max(map(len, found)) <= 48


def test_a_tree_has_one_shape() -> None:
    for leaves in (1, 2, 3, 5, 8, 13):
        shapes = set()
        for seed in range(20):
            tree, root = MergeTree(leaves, lambda a, b: f"({a}{b})"), []
            for i in np.random.default_rng(seed).permutation(leaves):
                assert root == []
                root = tree.put(int(i), "abcdefghijklm"[i])
            shapes |= set(root)
        assert len(shapes) == 1
        assert shapes.pop().replace("(", "").replace(")", "") == "abcdefghijklm"[:leaves]


def test_threads_of_an_executor(job: Job, here: Step) -> None:
    with ThreadPoolExecutor(2) as executor:
        assert_equal(stepped(job, as_workers(executor, "cpu")), here)


class Backwards(Executor):
    """Does what it is given once all of it is there, the last one first."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any, tuple[Any, ...]]] = []

    def submit(self, work: Any, /, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        self.waiting.append((Future(), work, arguments))
        threading.Timer(0.3, self.finish).start()
        return self.waiting[-1][0]

    def finish(self) -> None:
        while self.waiting:
            future, work, arguments = self.waiting.pop()
            future.set_result(work(*arguments))


def test_it_does_not_matter_who_is_done_first(job: Job) -> None:
    with ThreadPoolExecutor(1) as executor:
        forwards = stepped(job, ExecutorWorkers(executor, "cpu"))
    backwards = stepped(job, ExecutorWorkers(Backwards(), "cpu"))
    assert same_bits(forwards.half_maps, backwards.half_maps)
    assert same_bits(forwards.expectation, backwards.expectation)


@pytest.mark.slow
def test_processes_one_of_which_is_killed(job: Job, alone: Step) -> None:
    """Again with one of the two killed while they work; then a stop, after which they still are of use."""
    first = synthetic_start(job)
    with LocalWorkers(2, "cpu") as crew:
        whole = stepped(job, crew)
        assert_equal(whole, alone)
        backend = replace(with_small_batches(get_backend("cpu", 1)), workers=crew)
        killed = 0
        for event in run_iteration(job, first, first, backend):
            if isinstance(event, Progress) and event.done and not killed:
                killed = crew.pids[0]
                os.kill(killed, signal.SIGKILL)
        assert killed
        assert isinstance(event, Step)
        assert killed not in crew.pids
        assert same_bits(event.half_maps, whole.half_maps)
        assert same_bits(event.expectation, whole.expectation)
        going = run_iteration(job, first, first, backend)
        assert isinstance(next(going), Progress)
        going.close()  # type: ignore[attr-defined]
        assert same_bits(stepped(job, crew).half_maps, whole.half_maps)


def test_an_executor_that_broke_is_told(job: Job) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor:
        executor.submit(os.getpid).result()
        for pid in executor._processes:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(InputError, match="workers were lost") as refusal:
            stepped(job, ExecutorWorkers(executor, "cpu"))
    assert "\n" not in str(refusal.value)


def test_a_reconstruction(job: Job) -> None:
    maps = []
    with ThreadPoolExecutor(2) as executor:
        for crew in (None, ExecutorWorkers(executor, "cpu")):
            *_, found = reconstruct(
                job.particles, 1, "C1", replace(with_small_batches(get_backend("cpu", 1)), workers=crew)
            )
            assert isinstance(found, Volume)
            maps.append(found.data)
    assert np.abs(maps[0] - maps[1]).max() < 1e-6 * np.abs(maps[0]).max()


def test_a_worker_without_the_files_names_itself_and_the_file(job: Job, tmp_path: Path) -> None:
    stack = job.particles.images.stacks[0]
    with LocalWorkers(1, "cpu") as crew:
        going = run_iteration(
            job,
            synthetic_start(job),
            synthetic_start(job),
            replace(with_small_batches(get_backend("cpu", 1)), workers=crew),
        )
        moved = stack.rename(tmp_path / "gone.mrcs")
        try:
            with pytest.raises(InputError, match=rf"{stack}"):
                list(going)
        finally:
            moved.rename(stack)


# --- dask ---


@contextmanager
def cluster(workers: int, **more: Any) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50, **more}
    with distributed.LocalCluster(n_workers=workers, **options) as made:
        yield made


@pytest.mark.slow
def test_dask_one_of_whose_workers_is_killed(job: Job, alone: Step) -> None:
    with cluster(2) as made, connect_scheduler(made.scheduler_address) as client:
        crew = DaskWorkers(client, "cpu")
        whole = stepped(job, crew)
        assert_equal(whole, alone)
        first, killed = synthetic_start(job), 0
        for event in run_iteration(job, first, first, replace(with_small_batches(get_backend("cpu", 1)), workers=crew)):
            if isinstance(event, Progress) and event.done and not killed:
                killed = next(iter(made.workers.values())).pid
                os.kill(killed, signal.SIGKILL)
        assert killed
        assert isinstance(event, Step)
        assert same_bits(event.half_maps, whole.half_maps)
        assert same_bits(event.expectation, whole.expectation)


def hide(path: str) -> int:
    """In a worker: a file is not there, as on a machine where its folder is not mounted."""
    here = io.open

    def without(file: Any, *arguments: Any, **more: Any) -> Any:
        if str(file) == path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return here(file, *arguments, **more)

    io.open = builtins.open = without  # pathlib opens by the first, others by the second
    return os.getpid()


@pytest.mark.slow
def test_a_worker_that_alone_does_not_see_the_images_is_named(job: Job) -> None:
    stack = str(job.particles.images.stacks[0])
    with cluster(2) as made, connect_scheduler(made.scheduler_address) as client:
        blind = next(iter(client.scheduler_info()["workers"]))
        pid = client.run(hide, stack, workers=[blind])[blind]
        with pytest.raises(InputError) as told:
            stepped(job, DaskWorkers(client, "cpu"))
    assert stack in str(told.value)
    assert f"{pid}" in str(told.value)
    assert platform.node() in str(told.value)


def test_a_scheduler_that_goes_away_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrcore.compute.workers.RECONNECT_S", 0.5)
    with cluster(1, processes=False) as made, connect_scheduler(made.scheduler_address) as client:
        going = run_iteration(
            job,
            synthetic_start(job),
            synthetic_start(job),
            replace(with_small_batches(get_backend("cpu", 1)), workers=DaskWorkers(client, "cpu")),
        )
        next(going)
        made.close()
        with pytest.raises(InputError, match=r"the dask scheduler is lost: complete steps are kept"):
            list(going)


def test_a_scheduler_that_is_gone_is_told_before_its_client_has_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrcore.compute.workers.RECONNECT_S", 1.0)
    monkeypatch.setattr(DaskWorkers, "_require_scheduler", lambda crew: None)
    with cluster(1, processes=False) as made, connect_scheduler(made.scheduler_address) as client:
        crew = DaskWorkers(client, "cpu")
        assert crew.submit(len, "abc").result() == 3
        lost = crew.lost_errors[-1]("a worker")
        assert crew._explain_error(lost) is lost
        made.close()
        with pytest.raises(InputError, match="the dask scheduler is lost: complete steps are kept"):
            raise crew._explain_error(lost)

        def closed(*arguments: Any, **more: Any) -> Any:
            raise lost

        monkeypatch.setattr(client, "scatter", closed)
        with pytest.raises(InputError, match="the dask scheduler is lost: complete steps are kept"):
            crew.broadcast(1)


def test_no_scheduler() -> None:
    pytest.importorskip("distributed", reason="distributed is not installed")
    with pytest.raises(InputError, match=r"tcp://127.0.0.1:9: no dask scheduler answers there"):
        connect_scheduler("tcp://127.0.0.1:9", 1.0)
