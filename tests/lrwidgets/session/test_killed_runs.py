"""A run that is killed or interrupted from outside goes on from its last whole iteration to the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrcore.results.zarr_store import Store
from lrwidgets.cli._main import main
from tests.fakes import FakeEngine, same_bits
from tests.lrwidgets.conftest import Files
from tests.lrwidgets.session.kills import STAGES

SLOW = """
import sys, time
from lrwidgets.cli import main
from tests.fakes import FakeEngine

class Slow(FakeEngine):
    def _chunked(self, job, iteration, stage):
        for event in super()._chunked(job, iteration, stage):
            time.sleep(0.2 if iteration == 3 else 0)
            yield event

sys.exit(main(sys.argv[1:], engine=Slow()))
"""


def disturbed(root: Path, argv: list[str], how: signal.Signals) -> tuple[int, str]:
    """Run a refinement as a program and send it a signal during iteration 3: its status and stderr."""
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'core'}"}
    command = [sys.executable, "-c", SLOW, *argv, "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as process:
        while json.loads(process.stdout.readline())["iteration"] < 2:
            pass
        process.send_signal(how)
        error = process.communicate(timeout=300)[1]
        return process.returncode, error


def test_a_real_run_survives_sigkill_at_any_moment(root: Path, tmp_path: Path) -> None:
    """20 kills in reading, search, insertion and store: the last step of every resumed run is the same to the bit.

    `python -m tests.lrwidgets.session.kills DIR 200 1 3` tries more of them.
    """
    layer = {"NUMBA_THREADING_LAYER": "workqueue"}  # the one that a process may use on both sides of a fork
    environment = {**os.environ, **layer, "PYTHONPATH": f"{root}:{root / 'core'}", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.lrwidgets.session.kills", str(tmp_path), "20", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=1200)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 20
    assert {one["stage"] for one in found} == set(STAGES)
    for one in found:
        assert one["status"] == 0, one
        assert one["kept"] in (one["told"], one["told"] + 1), one  # a step may be whole just before that is told
        assert one["iteration"] == 1, one
        assert one["differs"] == [], one
        assert one["left"] == [], one
        assert one["damaged"] == 0, one
    assert sum(one["kept"] for one in found) > 0


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_to_the_same_bits(how: signal.Signals, root: Path, files: Files, tmp_path: Path) -> None:
    out, whole = tmp_path / "run.zarr", tmp_path / "whole.zarr"
    status, error = disturbed(root, files.refine(out), how)
    if how != signal.SIGKILL:
        assert status == (130 if how == signal.SIGINT else 143)
        assert error == f"error: interrupted; {out} holds iterations 0 to 2: continue it with --resume\n"
    else:
        assert status == -signal.SIGKILL
    assert [node.iteration for node in Store.open(out, write=False).tree()] == [0, 1, 2]
    assert main(files.refine(out, "--resume"), engine=FakeEngine()) == 0
    assert main(files.refine(whole), engine=FakeEngine()) == 0
    stores = [Store.open(path, write=False) for path in (out, whole)]
    steps = [store.load(store.node().id) for store in stores]
    assert steps[0].iteration == 4
    assert same_bits(*steps)
