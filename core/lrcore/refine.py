"""Refinement as data: start, advance, iterate and finish; whoever calls holds the loop."""

from collections.abc import Iterator
from dataclasses import dataclass

from lrcore.backend import Backend
from lrcore.records import HalfMaps, Particles, Progress, Step, Volume
from lrcore.spec import RefineSpec


@dataclass(frozen=True)
class Job:
    """What a refinement works on. half_maps: as given, or None to reconstruct them from the input poses."""

    particles: Particles
    mask: Volume
    spec: RefineSpec
    half_maps: HalfMaps | None = None


def start(job: Job, backend: Backend) -> Iterator[Progress | Step]:
    """Check the job and yield progress, then Step 0: half maps on the images' scale, noise, initial low-pass."""
    raise RuntimeError("being written")


def advance(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """One iteration on top of `last`; `first` is the run's Step 0. Yields Progress per chunk, then the Step."""
    raise RuntimeError("being written")


def iterate(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Advance until converged (plus extra passes) or `max_iterations`; yields everything `advance` does."""
    raise RuntimeError("being written")
