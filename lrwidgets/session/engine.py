"""Define the functions that a session computes with: those of lrcore, or substitutes of the same signatures."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lrcore.analysis import held_out_likelihood
from lrcore.analysis.held_out_likelihood import HeldOut
from lrcore.compute import backend as backends
from lrcore.compute.backend import Backend
from lrcore.compute.workers import as_workers
from lrcore.errors import InputError
from lrcore.records import Progress, Step
from lrcore.refinement import density, iteration, whole_maps
from lrcore.refinement import start as refinement_start
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.window_cache import WindowCache

Events = Iterator[Progress | Step]


class Engine(Protocol):
    """Functions that compute the steps of a run; `LRCORE_ENGINE` is the implementation by lrcore."""

    def get_backend(self, name: str, threads: int | None) -> Backend:
        """See lrcore.compute.backend.get_backend."""

    def start(self, job: Job, backend: Backend) -> Events:
        """See lrcore.refinement.start.start."""

    def run_iteration(self, job: Job, first: Step, last: Step, backend: Backend) -> Events:
        """See lrcore.refinement.iteration.run_iteration."""

    def iterate(self, job: Job, first: Step, last: Step, backend: Backend) -> Events:
        """See lrcore.refinement.iteration.iterate."""

    def make_whole_maps(self, job: Job, step: Step, backend: Backend) -> Events:
        """See lrcore.refinement.whole_maps.make_whole_maps."""

    def adopt_step(self, job: Job, made: Job, first: Step, step: Step, backend: Backend) -> Step:
        """See lrcore.refinement.density.adopt_step."""

    def held_out(self, first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Backend, n: int) -> HeldOut:
        """See lrcore.analysis.held_out_likelihood.held_out."""


class _LrcoreEngine:
    """The functions of lrcore."""

    get_backend = staticmethod(backends.get_backend)
    start = staticmethod(refinement_start.start)
    run_iteration = staticmethod(iteration.run_iteration)
    iterate = staticmethod(iteration.iterate)
    make_whole_maps = staticmethod(whole_maps.make_whole_maps)
    adopt_step = staticmethod(density.adopt_step)
    held_out = staticmethod(held_out_likelihood.held_out)


LRCORE_ENGINE: Engine = _LrcoreEngine()


def make_backend(
    engine: Engine, name: str, threads: int | None, workers: Any, windows: WindowCache | None = None
) -> Backend:
    """Return the engine's backend of that name, working with an Executor, a dask Client, workers or none (None).

    windows: keeps the windows of the images.
    """
    backend = replace(engine.get_backend(name, threads), windows=windows)
    return backend if workers is None else replace(backend, workers=as_workers(workers, name))


def make_window_cache(memory_GB: float | None, scratch: str | os.PathLike[str] | None) -> WindowCache:
    """Return the cache of a session's windows.

    Parameters
    ----------
    memory_GB : of the windows in memory; None for a third of what is free
    scratch : folder for windows that do not fit; None for none

    Raises
    ------
    InputError
        If the memory is negative, or the scratch folder is not a folder that can be written.
    """
    if memory_GB is not None and not memory_GB >= 0:
        raise InputError(f"cache_memory_GB = {memory_GB:g}: give 0 or more GB")
    folder = None if scratch is None else Path(scratch)
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(f"{folder}: is not a folder that can be written: make it, or name another one with --scratch")
    return WindowCache(None if memory_GB is None else int(memory_GB * 1e9), folder)


def map_kind(spec: RefineSpec, mask: str) -> tuple[str, ...]:
    """Return what decides which density an iteration's half maps contain: mask (its digest), mask mode, subtraction.

    An iteration with another kind of map first adds the subtracted density back (`adopt_step`).
    """
    return (mask, spec.mask_mode, str(spec.subtract_outside))
