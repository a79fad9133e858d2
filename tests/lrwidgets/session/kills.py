"""A real refinement killed by SIGKILL at moments drawn by a seed, and resumed.

`python -m tests.lrwidgets.session.kills DIR N SEED [ITERATIONS]` prints a JSON object for each
kill. One process loads the
kernels once and forks a child for each life of a run. Every fourth run is killed on its way from nothing, the others
after some whole steps.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import ZipStore

from lrcore.io.image_stacks import StackReader
from lrcore.refinement import window_pass
from lrcore.results import zarr_store
from lrcore.results.verification import verify_run
from lrcore.results.zarr_store import Store
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main
from lrwidgets.session.session import Session

STAGES: dict[str, tuple[Any, str, int, int]] = {
    "read": (StackReader, "read_with_finite_flags", 16, 4),
    "search": (window_pass, "search_poses", 2, 2),
    "insertion": (window_pass, "insert_slices", 2, 2),
    "store write": (zarr_store, "write_zip", 2, 1),
    "store checksum": (zarr_store, "checksum", 2, 3),
    "store rename": (zarr_store, "rename", 3, 1),
}
"""What a run is at when it is killed, the function that it is in, and its calls: in a start and an iteration, and in an
iteration that a resumed run makes."""
BITS = ("particles/rotation", "particles/origin", "particles/covariance", "particles/flags")
"""What must come out the same, beside the half maps."""
FAILED = 70
"""Status of a child that raised."""
ATTEMPTS = 20
"""Runs in a row that may come to their end before they are killed."""
DELAYS_S = (0.0, 0.001, 0.003, 0.01, 0.03)
"""Between the beginning of that call and the kill."""


def argv(folder: Path, out: Path, iterations: int) -> list[str]:
    """Arguments that begin a run, or go on with it."""
    data = [str(folder / "particles.star"), "--mask", str(folder / "mask_b.mrc")]
    more = ["--resume"] if out.exists() else []
    return ["refine", *data, "--iterations", str(iterations), "--threads", "1", "--out", str(out), *more]


def signal_at_call(function: Callable[..., Any], count: list[int], wanted: int, pipe: int) -> Callable[..., Any]:
    """The function, which says through the pipe that its call number `wanted` has begun."""

    def call(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == wanted:
            os.write(pipe, b"!")
        return function(*arguments, **named)

    return call


def run_until_killed(arguments: list[str], stage: str, wanted: int, delay_s: float) -> tuple[int, int]:
    """Run in a child, killed `delay_s` after its call number `wanted` in a stage: its status, and steps told whole."""
    there, here = os.pipe()
    module, name = STAGES[stage][:2]
    function = getattr(module, name)

    def run() -> int:
        os.close(there)
        setattr(module, name, signal_at_call(function, [0], wanted, here))
        keep = Store.append

        def append(self: Store, *arguments: Any) -> Any:
            node = keep(self, *arguments)
            os.write(here, b".")
            return node

        Store.append = append  # type: ignore[method-assign]
        return main(arguments)

    child = fork_silently(run)
    os.close(here)
    whole = 0
    while mark := os.read(there, 1):
        if mark == b"!":
            time.sleep(delay_s)
            os.kill(child, signal.SIGKILL)
        else:
            whole += 1
    os.close(there)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), whole


def fork_silently(run: Callable[[], int]) -> int:
    """Fork a child that calls a function, prints nothing, and ends with its status; FAILED if it raises."""
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        status = FAILED
        try:
            status = run()
        finally:
            os._exit(status)
    return child


def run_to_end(arguments: list[str]) -> int:
    """Run in a child to the end: its status."""
    return os.waitstatus_to_exitcode(os.waitpid(fork_silently(lambda: main(arguments)), 0)[1])


def last_step(out: Path) -> tuple[str, dict[str, bytes]]:
    """Name of the newest step, and the bits of its poses and maps."""
    step = max(name for name in os.listdir(out / "steps") if name[0].isdigit())
    with contextlib.closing(ZipStore(out / "steps" / step)) as store:
        maps = "volumes/half_map" if step.startswith("0000") else "body/half_map"
        return step, {name: np.asarray(zarr.open_array(store, path=name)[:]).tobytes() for name in (*BITS, maps)}


def steps_of(out: Path) -> int:
    return len([name for name in os.listdir(out / "steps") if name[0].isdigit()]) if out.exists() else 0


def kill_and_resume(folder: Path, n: int, seed: int, iterations: int) -> Iterator[dict[str, Any]]:
    """Each stage in turn, at a call and a delay drawn at random; a run that came to its end first is tried again."""
    simulate_flexible_particle(folder, n=24, box=24, pixel_size_A=8.0, snr=0.3)
    rng = random.Random(seed)
    whole, begun = folder / "whole.zarr", folder / "begun.zarr"
    for out, end in ((begun, iterations - 1), (whole, iterations)):
        session = Session.load(folder / "particles.star", folder / "mask_b.mrc", out=out, threads=1)
        with session:
            session.run(end, wait=True)
    _, expected = last_step(whole)
    done = attempts = 0
    while done < n:
        fresh = done % 4 == 3
        stage = list(STAGES)[done % len(STAGES)]
        out = folder / f"{done}.zarr"
        if not fresh:
            shutil.copytree(begun, out)
        before = steps_of(out)
        calls = STAGES[stage][2 if fresh else 3]
        delay_s = rng.choice(DELAYS_S)
        status, told_whole = run_until_killed(argv(folder, out, iterations), stage, rng.randint(1, calls), delay_s)
        attempts += 1
        if status not in (-signal.SIGKILL, 0):
            raise RuntimeError(f"the run to be killed in {stage!r} ended by itself with status {status}")
        if attempts > ATTEMPTS:
            raise RuntimeError(f"{attempts} runs came to their end before they were killed in {stage!r}")
        if status == -signal.SIGKILL:
            attempts = 0
            kept = steps_of(out)
            after = run_to_end(argv(folder, out, iterations))
            name, found = last_step(out)
            done += 1
            yield {
                "stage": stage,
                "fresh": fresh,
                "told": before + told_whole,
                "kept": kept,
                "status": after,
                "iteration": int(name.partition("-")[0]),
                "differs": [one for one in BITS if found[one] != expected[one]],
                "left": [path.name for path in out.iterdir() if path.name == ".partial"],
                "damaged": len(verify_run(out).damaged),
            }
        shutil.rmtree(out)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    number = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    for one in kill_and_resume(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), number):
        print(json.dumps(one), flush=True)
