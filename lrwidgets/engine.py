"""What computes for a session: lrcore, or whatever stands in for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from lrcore import backend as backends
from lrcore import heldout, refine
from lrcore.backend import Backend
from lrcore.execute import crew_of
from lrcore.heldout import HeldOut
from lrcore.records import Progress, Step
from lrcore.refine import Job
from lrcore.spec import RefineSpec

Events = Iterator[Progress | Step]


class Engine(Protocol):
    """What computes; `CORE` is lrcore."""

    def pick(self, name: str, threads: int | None) -> Backend:
        """The backend of that name."""

    def start(self, job: Job, backend: Backend) -> Events:
        """See lrcore.refine.start."""

    def advance(self, job: Job, first: Step, last: Step, backend: Backend) -> Events:
        """See lrcore.refine.advance."""

    def iterate(self, job: Job, first: Step, last: Step, backend: Backend) -> Events:
        """See lrcore.refine.iterate."""

    def under(self, job: Job, made: Job, first: Step, step: Step, backend: Backend) -> Step:
        """See lrcore.refine.under."""

    def held_out(self, first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Backend, n: int) -> HeldOut:
        """See lrcore.heldout.held_out."""


class _Core:
    pick = staticmethod(backends.pick)
    start = staticmethod(refine.start)
    advance = staticmethod(refine.advance)
    iterate = staticmethod(refine.iterate)
    under = staticmethod(refine.under)
    held_out = staticmethod(heldout.held_out)


CORE: Engine = _Core()


def picked(engine: Engine, name: str, threads: int | None, workers: Any) -> Backend:
    """The backend of that name; workers: an Executor, a dask Client or a crew that it works with, or None."""
    backend = engine.pick(name, threads)
    return backend if workers is None else replace(backend, crew=crew_of(workers, name))


def kind_of_maps(spec: RefineSpec, mask: str) -> tuple[str, ...]:
    """Of what an iteration's maps are; to go on from them with another kind they are made whole. mask: its digest."""
    return (mask, spec.mask_mode, str(spec.subtract_outside))
