"""How far the poses of a step may be off: asked once, and kept with the run."""

from collections.abc import Callable

import xarray as xr

from lrcore.analysis.pose_uncertainty import uncertainty
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.records import Progress
from lrcore.refinement.job import Job
from lrcore.results.store import StepNode, StepStore
from lrcore.results.tree import uncertainty_dataset


def stored_or_computed(
    store: StepStore, node: StepNode, job: Job, backend: Backend, tell: Callable[[Progress], None]
) -> xr.Dataset:
    """The /uncertainty group (docs/results.md) of a step: what the run keeps of it, or drawn now, and kept if it may.

    job: as the step was run with it. Raises InputError for a start.
    """
    known = store.uncertainty(node.id)
    if known is not None:
        return known
    if node.parent is None:
        raise InputError("the start has the poses of the input, which were not searched: run an iteration")
    steps = [store.load(name) for name in (store.path_to(node.id)[0].id, node.parent, node.id)]
    first, before, last = steps
    for event in uncertainty(job, first, last, backend, before):
        if isinstance(event, Progress):
            tell(event)
        else:
            found = uncertainty_dataset(job.particles, last, event)
    if not store.read_only:
        store.keep_uncertainty(node.id, found)
    return found
