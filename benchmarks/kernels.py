"""The four kernels on this machine, one thread and all: nanoseconds a sample, particles a second; copy as the ceiling.

.venv/bin/python benchmarks/kernels.py [--window 72] [--box 128]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from lrcore.backend import pick
from lrcore.fourier import QUADRATIC, from_map, shape_for
from lrcore.grids import half_plane
from lrcore.rotations import ball_lattice, exp, from_euler


def best_of(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the quickest of some runs, after one that compiles."""
    work()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def copy_bandwidth() -> float:
    """GB/s of a large array copy, read and write counted."""
    source = np.ones(1 << 25, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / best_of(lambda: np.copyto(target, source)) / 1e9


def measure(window: int, box: int, threads: int | None, batch: int = 128) -> dict[str, float]:
    """Speed of each kernel in a window and a box of that many pixels."""
    backend = pick("cpu", threads)
    kernels, rng = backend.kernels, np.random.default_rng(0)
    limit = round(0.375 * window)
    volume = from_map(rng.normal(size=(window,) * 3).astype(np.float32), limit, kernel=QUADRATIC)
    samples = half_plane(window, (0.45 * limit, float(limit)))
    turns = from_euler(rng.uniform(-180, 180, (batch, 3)))
    W = (rng.normal(size=(batch, len(samples.kx), 2)) @ [1, 1j]).astype(np.complex64)
    w = np.ones(W.shape, np.float32)
    lattice, shifts = exp(ball_lattice(0.26, 0.08)), np.linspace(-4, 4, 11)
    images = (rng.normal(size=(batch, box, box // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    weight, reach = np.ones(images.shape, np.float32), (box - 1) // 2
    sums = np.zeros(shape_for(reach), np.complex64), np.zeros(shape_for(reach), np.float32)
    none, lever = np.zeros((batch, 5)), np.array([3.0, 2.0, 10.0])
    count = batch * len(samples.kx)
    per_rotation = batch * len(lattice)
    seconds = {
        "evaluate, ns/sample": (count, lambda: kernels.evaluate(volume, W, w, samples, 1, turns, none, lever)),
        "slices, ns/sample": (count, lambda: kernels.slices(volume, turns, samples)),
        "score, ns/rotation": (
            per_rotation,
            lambda: kernels.score(volume, W, w, samples, turns, lattice, lever, shifts, np.zeros((11, 11))),
        ),
    }
    found = {name: best_of(work) / n * 1e9 * backend.threads for name, (n, work) in seconds.items()}
    insertion = best_of(lambda: kernels.insert(*sums, turns, none[:, :2], images, weight, reach))
    return {**found, "insert, particles/s": batch / insertion}


def main() -> None:
    """Print a table: a column for one thread, one for all. Times are per core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=int, default=72)
    parser.add_argument("--box", type=int, default=128)
    given = parser.parse_args()
    one, every = measure(given.window, given.box, 1), measure(given.window, given.box, None)
    print(f"window {given.window}, box {given.box}; copy {copy_bandwidth():.1f} GB/s")
    print(f"{'':24}{'1 thread':>12}{'all':>12}")
    for name, value in one.items():
        print(f"{name:24}{value:12.1f}{every[name]:12.1f}")


if __name__ == "__main__":
    main()
