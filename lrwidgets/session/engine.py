"""What computes for a session: lrcore, or whatever stands in for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from lrcore.analysis import held_out_likelihood
from lrcore.analysis.held_out_likelihood import HeldOut
from lrcore.compute import backend as backends
from lrcore.compute.backend import Backend
from lrcore.compute.workers import as_workers
from lrcore.records import Progress, Step
from lrcore.refinement import density, iteration
from lrcore.refinement import start as refinement_start
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec

Events = Iterator[Progress | Step]


class Engine(Protocol):
    """What computes; `CORE` is lrcore."""

    def get_backend(self, name: str, threads: int | None) -> Backend:
        """The backend of that name."""

    def start(self, job: Job, backend: Backend) -> Events:
        """See lrcore.refinement.start.start."""

    def advance(self, job: Job, first: Step, last: Step, backend: Backend) -> Events:
        """See lrcore.refinement.iteration.run_iteration."""

    def iterate(self, job: Job, first: Step, last: Step, backend: Backend) -> Events:
        """See lrcore.refinement.iteration.iterate."""

    def adopt_step(self, job: Job, made: Job, first: Step, step: Step, backend: Backend) -> Step:
        """See lrcore.refinement.density.adopt_step."""

    def held_out(self, first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Backend, n: int) -> HeldOut:
        """See lrcore.analysis.held_out_likelihood.held_out."""


class _LrcoreEngine:
    get_backend = staticmethod(backends.get_backend)
    start = staticmethod(refinement_start.start)
    advance = staticmethod(iteration.run_iteration)
    iterate = staticmethod(iteration.iterate)
    adopt_step = staticmethod(density.adopt_step)
    held_out = staticmethod(held_out_likelihood.held_out)


LRCORE_ENGINE: Engine = _LrcoreEngine()


def make_backend(engine: Engine, name: str, threads: int | None, workers: Any) -> Backend:
    """The backend of that name; workers: an Executor, a dask Client or a crew that it works with, or None."""
    backend = engine.get_backend(name, threads)
    return backend if workers is None else replace(backend, workers=as_workers(workers, name))


def map_kind(spec: RefineSpec, mask: str) -> tuple[str, ...]:
    """Of what an iteration's maps are; to go on from them with another kind they are made whole. mask: its digest."""
    return (mask, spec.mask_mode, str(spec.subtract_outside))
