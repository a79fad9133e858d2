"""A session that is used for long keeps no memory, thread, file or temporary file of what is done with."""

import gc
import os
import tempfile
import threading
import warnings
from pathlib import Path

import pytest

from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.session.session import Session

ROUNDS, SETTLED = 30, 5
GROWTH_MB = 10.0
"""Of 50 that are allowed: in so small a box a step is no more than a megabyte."""


def resident_MB() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return {name for name in found if name.startswith("/")}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_previews_rewinds_and_branches_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 rounds of a preview, a rewind and a branch with an iteration, on disk, in a box where a leak would be seen."""
    temporary = tmp_path / "temporary"  # of this process alone
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    data = simulate_flexible_particle(tmp_path / "data", n=24, box=40, pixel_size_A=4.6, snr=0.3)
    threads, files = set(threading.enumerate()), open_files()
    memory = []
    out = tmp_path / "run.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Session.load(data.star, data.map("mask_b"), out=out, threads=1) as session:
            session.run(1, wait=True)
            start = session.path()[0].id
            for number in range(ROUNDS):
                session.preview(8, wait=True)
                session.rewind(start, wait=True)
                if number % 3 == 0:
                    session.branch(start, wait=True, rotation_prior_sd_deg=1.0 + number / 10)
                    session.run(1, wait=True)
                memory.append(resident_MB())
            steps = len(session.state.tree)
    assert steps == 2 + ROUNDS // 3
    assert memory[-1] - memory[SETTLED - 1] < GROWTH_MB, memory
    left = {
        thread for thread in set(threading.enumerate()) - threads if not thread.name.startswith(("asyncio", "zarr"))
    }
    assert left == set()
    assert {name for name in open_files() - files if str(tmp_path) in name} == set()
    assert os.listdir(temporary) == []
    assert sorted(os.listdir(out)) == ["mask", "steps", "whole_maps", "zarr.json"]
    assert sorted(os.listdir(tmp_path)) == ["data", "run.zarr", "temporary"]
    print(f"resident: {memory[SETTLED - 1]:.0f} MB after {SETTLED} rounds, {memory[-1]:.0f} MB after {ROUNDS}")
