"""Keep the windows of images from iteration to iteration: in memory, else in a scratch file, else cut again each time.

A scratch file has no name from the moment it is made, so that the system removes it when the process ends, however it
ends; two runs can share a folder. Its whole size is reserved at once, so that a full disk is known before the work.
"""

import os
import tempfile
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lrcore.arrays import Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.records import Particles, Step
from lrcore.refinement.job import Job
from lrcore.refinement.window import Window
from lrcore.refinement.window_images import CutImages, Cutting, cut_images

MEMORY_SHARE = 1 / 3
"""Share of the memory that is free at the start which windows may take by default."""

IMAGES_AND_POSES = 2
"""Number of parts of a key that belong to the particles, and come first."""
Place = Literal["memory", "scratch", "none"]
"""Where windows are kept."""


def free_memory_bytes() -> int:
    """Return the memory that processes can still allocate, by /proc/meminfo; 1 GB where that does not exist."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 1 << 30


@dataclass
class _Stored:
    """Windows of all particles, in the order of their table, NaN in `cut_at` where there is none yet."""

    key: tuple[Any, ...]
    codes: Any
    steps: Any
    bad: Any
    cut_at: Float64


class WindowCache:
    """Windows of the particles of one job at a time.

    Parameters
    ----------
    memory_bytes : bytes that windows may take in memory; None for a third of what is free
    scratch : folder for windows that do not fit into memory; None for none
    """

    def __init__(self, memory_bytes: int | None = None, scratch: Path | None = None) -> None:
        self._memory, self._scratch = memory_bytes, scratch
        self._stored: _Stored | None = None
        self.place: Place = "none"
        self.bytes = 0

    def prepare(self, key: tuple[Any, ...], particles: int, window: Window) -> None:
        """Make room for windows that depend on `key`; those of another key are dropped.

        Parameters
        ----------
        key : all that the windows depend on, compared by identity or equality
        particles : number of particles
        window : to which images are cut
        """
        if self._stored and _same(self._stored.key, key):
            return
        self._stored, self.place = None, "none"
        count = len(window.samples.kx)
        self.bytes = particles * count * 6
        codes = self._allocate((particles, count, 3))
        if codes is not None:
            steps, bad = np.zeros((particles, 2), np.float32), np.zeros(particles, np.bool_)
            self._stored = _Stored(key, codes, steps, bad, np.full((particles, 3), np.nan))

    def fetch(
        self,
        particles: Particles,
        rows: Rows,
        points: Float64,
        amplitude: Float64,
        cutting: Cutting,
        backend: Backend,
    ) -> Generator[int, None, CutImages]:
        """Return the windows of some images; those that are not kept are cut. See `cut_images`."""
        stored, wanted = self._stored, np.column_stack([points, amplitude])
        if stored is None:
            return (yield from cut_images(particles, rows, points, amplitude, cutting, backend))
        missing = np.nonzero((stored.cut_at[rows] != wanted).any(axis=1))[0]
        if len(missing):
            lacking = rows[missing]
            stored.cut_at[lacking] = np.nan
            made = yield from cut_images(particles, lacking, points[missing], amplitude[missing], cutting, backend)
            stored.codes[lacking], stored.steps[lacking], stored.bad[lacking] = made.codes, made.steps, made.bad
            stored.cut_at[lacking] = wanted[missing]
        return CutImages(np.asarray(stored.codes[rows]), stored.steps[rows], stored.bad[rows])

    def _allocate(self, shape: tuple[int, ...]) -> Any:
        """Return an array of int16 in memory or in a scratch file, or None."""
        limit = int(MEMORY_SHARE * free_memory_bytes()) if self._memory is None else self._memory
        if self.bytes <= limit:
            self.place = "memory"
            return np.empty(shape, np.int16)
        if self._scratch is None:
            return None
        try:
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                os.posix_fallocate(file.fileno(), 0, self.bytes)
                mapped = np.memmap(file, np.int16, "r+", shape=shape)
        except OSError as error:
            warnings.warn(
                f"{self._scratch}: no room for {self.bytes / 1e9:.1f} GB of image windows ({error.strerror}): they are "
                "cut from the images again in every iteration; name another folder with --scratch",
                stacklevel=2,
            )
            return None
        self.place = "scratch"
        return mapped


class WindowSelection(WindowCache):
    """Windows of some particles of a job; those in the cache of all particles are taken from there, and stay there.

    Parameters
    ----------
    whole : cache of all particles
    rows : (m,) of the particles, in the order of the selection
    """

    def __init__(self, whole: WindowCache, rows: Rows) -> None:
        super().__init__(whole._memory, whole._scratch)
        self._whole, self._rows = whole, rows

    def prepare(self, key: tuple[Any, ...], particles: int, window: Window) -> None:
        """Make room for windows, see `WindowCache`, and take those that are in the cache of all particles."""
        before = self._stored
        super().prepare(key, particles, window)
        own, there = self._stored, self._whole._stored
        if own is None or own is before or there is None:
            return
        if not _same(there.key[IMAGES_AND_POSES:], key[IMAGES_AND_POSES:]):
            return
        own.codes[:], own.steps[:] = there.codes[self._rows], there.steps[self._rows]
        own.bad[:], own.cut_at[:] = there.bad[self._rows], there.cut_at[self._rows]


def window_key(job: Job, first: Step, window: Window) -> tuple[Any, ...]:
    """Return all that the windows of a job's images depend on, but for the points about which they are cut.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    window : to which images are cut
    """
    images, poses, mask = job.particles.images, job.particles.poses.rotation, job.mask.data
    settings = (job.spec.subtract_outside, job.spec.symmetry, first.outside_fraction, first.intensity)
    return (images, poses, mask, first.noise, window.centre, window.size, *settings)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Return whether two keys are equal; arrays are compared by identity."""
    return len(one) == len(other) and all(
        a is b or (not isinstance(a, np.ndarray) and type(a) in (int, float, str, bool, tuple) and a == b)
        for a, b in zip(one, other, strict=True)
    )
