"""Compute the pose uncertainty of a step once, and store it with the run."""

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
    store: StepStore, node: StepNode, job: Job, backend: Backend, report: Callable[[Progress], None]
) -> xr.Dataset:
    """Return the group /uncertainty (docs/results.md) of a step: the stored one, or a new one, stored if allowed.

    job: the one that the step was run with. report: called with each Progress event. Raises InputError for a start.
    """
    stored = store.uncertainty(node.id)
    if stored is not None:
        return stored
    if node.parent is None:
        raise InputError("the start has the input poses, which were not searched: run an iteration")
    steps = [store.load(name) for name in (store.path_to(node.id)[0].id, node.parent, node.id)]
    first, before, last = steps
    for event in uncertainty(job, first, last, backend, before):
        if isinstance(event, Progress):
            report(event)
        else:
            computed = uncertainty_dataset(job.particles, last, event)
    if not store.read_only:
        store.store_uncertainty(node.id, computed)
    return computed
