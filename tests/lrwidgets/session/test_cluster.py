"""`lrwidgets refine` with --workers and --scheduler: the same run; stopped, resumed, and left by its scheduler."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lrcore.results.zarr_store import Store
from lrcore.simulation.benchmark_data import BenchmarkData, make_benchmark_data
from lrwidgets.bench.kernels import SETTING
from lrwidgets.cli._main import main
from lrwidgets.session.session import Session
from lrwidgets.text.parameters import edit_spec
from tests.fakes import FakeEngine, same_bits
from tests.lrwidgets.conftest import Files

Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkData:
    spec = edit_spec(SETTING, {"max_align_resolution_A": 12.0, "initial_lowpass_A": 12.0})
    return make_benchmark_data(
        tmp_path_factory.mktemp("data"), 400, spec, box=32, pixel_size_A=4.0, radius_px=11.0, snr=0.5
    )


def refine(made: BenchmarkData, out: Path, *more: str, iterations: int = 1) -> list[str]:
    return ["refine", *made.arguments, "--out", str(out), "--iterations", str(iterations), "--backend", "cpu", *more]


@pytest.fixture(scope="module")
def alone(made: BenchmarkData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a process that finds its kernels compiled, as those of workers are: fresh code differs in the last bit."""
    for name in ("first", "second"):
        out = tmp_path_factory.mktemp("alone") / f"{name}.zarr"
        subprocess.run([sys.executable, "-m", "lrwidgets", *refine(made, out)], check=True, capture_output=True)
    return out


def last(run: Path) -> Any:
    store = Store.open(run, write=False)
    assert store.head is not None
    return store.load(store.head.id)


@pytest.mark.parametrize("count", ["1", "2", "4"])
def test_workers(made: BenchmarkData, alone: Path, tmp_path: Path, count: str) -> None:
    assert main(refine(made, tmp_path / "run.zarr", "--workers", count)) == 0
    found, wanted = last(tmp_path / "run.zarr"), last(alone)
    assert found.iteration == 1
    assert same_bits(found.expectation, wanted.expectation)
    assert same_bits(found.noise, wanted.noise)


def test_a_session_with_an_executor(made: BenchmarkData) -> None:
    with ThreadPoolExecutor(2) as executor, Session(made.job, workers=executor, backend="cpu") as session:
        session.edit(max_iterations=1)
        session.run(wait=True)
        assert session.state.iteration == 1
        assert set(session.state.summaries[-1].seconds) >= {"read", "window", "search", "insert", "reconstruct"}


def test_sigterm_stops_the_workers_too(made: BenchmarkData, tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    process, workers = at_work(made, out)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "continue it with --resume" in said
    assert gone(workers)
    kept = last(out).iteration
    assert main(refine(made, out, "--resume", iterations=kept + 1)) == 0
    assert last(out).iteration >= kept


def test_workers_end_with_a_process_that_is_killed(made: BenchmarkData, tmp_path: Path) -> None:
    process, workers = at_work(made, tmp_path / "run.zarr")
    process.kill()
    process.wait()
    assert gone(workers)
    process.communicate()


def at_work(made: BenchmarkData, out: Path) -> tuple["subprocess.Popen[str]", list[int]]:
    """A refinement with two workers that is past its first iteration, and what works for it."""
    command = [sys.executable, "-m", "lrwidgets", *refine(made, out, "--workers", "2", "--json", iterations=40)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("iteration") == 1:
            break
    workers = children(process.pid)
    assert len(workers) >= 2
    return process, workers


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        if task.name != str(pid)
        for child in (task / "children").read_text().split()
    ]


def gone(pids: list[int], seconds: float = 120.0) -> bool:
    """Whether they all end soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def scheduler() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50, "processes": False}
    with distributed.LocalCluster(n_workers=2, **options) as made:
        yield made


def test_a_scheduler_that_is_started_again(
    made: BenchmarkData, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes away after the first iteration: a line, status 2, whole steps; a new one goes on to the same end."""
    monkeypatch.setattr("lrcore.compute.workers.RECONNECT_S", 0.5)
    out = tmp_path / "run.zarr"
    with scheduler() as cluster:
        assert main(refine(made, out, "--scheduler", cluster.scheduler_address)) == 0
        assert last(out).iteration == 1
        closing = closed_later(cluster, out, 2)
        resumed = refine(made, out, "--scheduler", cluster.scheduler_address, "--resume", iterations=60)
        assert main([*resumed, "--set", "extra_final_passes=20"]) == 2
        closing.join()
    assert "error: the dask scheduler is lost: complete steps are kept" in capsys.readouterr().err
    kept = last(out).iteration
    assert kept >= 2
    with scheduler() as cluster:
        again = refine(made, out, "--scheduler", cluster.scheduler_address, "--resume", iterations=kept + 1)
        assert main([*again, "--set", "extra_final_passes=20"]) == 0
    assert last(out).iteration > kept


def closed_later(cluster: Any, run: Path, iteration: int) -> Any:
    """A thread that closes the cluster once the run has that iteration."""

    def close() -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end and not list((run / "steps").glob(f"{iteration:04d}-*")):
            time.sleep(0.02)
        cluster.close()

    thread = threading.Thread(target=close)
    thread.start()
    return thread


def test_memory_is_told_before(files: Files, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(files.refine(tmp_path / "small.zarr"), engine=FakeEngine()) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("lrwidgets.cli.refine.MEMORY_NOTE_MB", 0.0)
    assert main(files.refine(tmp_path / "run.zarr"), engine=FakeEngine()) == 0
    assert capsys.readouterr().err.startswith("memory: about ")


def test_one_of_them(made: BenchmarkData, tmp_path: Path, capsys: Out) -> None:
    assert main(refine(made, tmp_path / "r.zarr", "--workers", "2", "--scheduler", "tcp://127.0.0.1:9")) == 2
    assert "--workers and --scheduler: give one of them" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
