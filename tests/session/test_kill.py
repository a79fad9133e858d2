"""A run that is killed or interrupted from outside goes on from its last whole iteration to the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrcore.store import Store
from lrwidgets.cli import main
from tests.fakes import FakeEngine, same_bits
from tests.session.conftest import Files

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
        error = process.communicate(timeout=60)[1]
        return process.returncode, error


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_to_the_same_bits(how: signal.Signals, root: Path, files: Files, tmp_path: Path) -> None:
    out, whole = tmp_path / "run.zarr", tmp_path / "whole.zarr"
    status, error = disturbed(root, files.refine(out), how)
    if how != signal.SIGKILL:
        assert status == (130 if how == signal.SIGINT else 143)
        assert error == f"error: interrupted; {out} holds iterations 0 to 2: go on with it by --resume\n"
    else:
        assert status == -signal.SIGKILL
    assert [node.iteration for node in Store.open(out, write=False).tree()] == [0, 1, 2]
    assert main(files.refine(out, "--resume"), engine=FakeEngine()) == 0
    assert main(files.refine(whole), engine=FakeEngine()) == 0
    stores = [Store.open(path, write=False) for path in (out, whole)]
    steps = [store.load(store.node().id) for store in stores]
    assert steps[0].iteration == 4
    assert same_bits(*steps)
