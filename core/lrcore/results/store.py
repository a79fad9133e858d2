"""Define the interface of a store of steps, and the store that keeps them in memory."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import xarray as xr

from lrcore.errors import InputError
from lrcore.records import IterationSummary, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.fingerprints import volume_fingerprint
from lrcore.results.tree import to_tree, with_group


@dataclass(frozen=True)
class StepNode:
    """A step's place in the tree. parent: None for a start. spec, mask: what it was run with; mask: by its digest."""

    id: str
    parent: str | None
    iteration: int
    spec: RefineSpec
    mask: str


class StepStore(ABC):
    """A tree of steps that only grows."""

    def __init__(self) -> None:
        self._nodes: dict[str, StepNode] = {}

    @abstractmethod
    def append(self, step: Step, parent: str | None, job: Job) -> StepNode:
        """Keep a step that grew from `parent` (None: a start) with the job's spec and mask; it becomes the head."""

    @abstractmethod
    def load(self, node: str) -> Step:
        """The step of a node, bit for bit as it was appended."""

    @abstractmethod
    def mask(self, node: str) -> Volume | None:
        """The mask that a node was run with; None for the one that the run was begun with."""

    @abstractmethod
    def history(self, node: str) -> tuple[IterationSummary, ...]:
        """The history up to a node."""

    @abstractmethod
    def results(self, node: str | None = None) -> xr.DataTree:
        """Results by the schema along the path from the start to `node` (the head by default)."""

    @property
    def read_only(self) -> bool:
        """Whether it can only be looked at."""
        return False

    @abstractmethod
    def keep_uncertainty(self, node: str, data: xr.Dataset) -> None:
        """Keep what `results.uncertainty_dataset` says of a step; what was kept of it before goes."""

    @abstractmethod
    def uncertainty(self, node: str) -> xr.Dataset | None:
        """What was kept of a step, or None."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held; nothing can be appended afterwards."""

    def tree(self) -> tuple[StepNode, ...]:
        """All nodes in the order of writing."""
        return tuple(self._nodes.values())

    @property
    def head(self) -> StepNode | None:
        """The newest node; None in an empty run."""
        return next(reversed(self._nodes.values()), None)

    def node(self, node: str | None = None) -> StepNode:
        """The node of that id, or the head. Raises InputError if there is none."""
        found = self.head if node is None else self._nodes.get(node)
        if found is None:
            raise InputError(
                f"run: there is no step {node}: choose one of its tree" if node else "run: has no step yet"
            )
        return found

    def path_to(self, node: str | None = None) -> tuple[StepNode, ...]:
        """The nodes from the start to `node` (the head by default)."""
        path = [self.node(node)]
        while path[0].parent is not None:
            path.insert(0, self._nodes[path[0].parent])
        return tuple(path)


class MemoryStore(StepStore):
    """A run that is not written down."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._steps: dict[str, Step] = {}
        self._masks: dict[str, Volume] = {}
        self._uncertainties: dict[str, xr.Dataset] = {}

    def append(self, step: Step, parent: str | None, job: Job) -> StepNode:
        """Keep a step; see `Steps`."""
        mask = volume_fingerprint(job.mask)["digest"]
        node = StepNode(f"{step.iteration:04d}-{len(self._nodes):04d}", parent, step.iteration, job.spec, mask)
        self._steps[node.id] = step
        self._masks.setdefault(mask, job.mask)
        self._nodes[node.id] = node
        return node

    def load(self, node: str) -> Step:
        """The step itself."""
        return self._steps[self.node(node).id]

    def mask(self, node: str) -> Volume | None:
        """The mask of a node, whichever it is."""
        return self._masks[self.node(node).mask]

    def history(self, node: str) -> tuple[IterationSummary, ...]:
        """The history up to a node."""
        return self.load(node).history

    def results(self, node: str | None = None) -> xr.DataTree:
        """Results by the schema; see `Steps`."""
        path = self.path_to(node)
        job = replace(self._job, spec=path[-1].spec, mask=self._masks[path[-1].mask])
        specs, masks = [n.spec for n in path], [self._masks[n.mask] for n in path]
        tree = to_tree(job, [self._steps[n.id] for n in path], specs=specs, masks=masks)
        return with_uncertainty(tree, self.uncertainty(path[-1].id))

    def keep_uncertainty(self, node: str, data: xr.Dataset) -> None:
        """Keep the data themselves."""
        self._uncertainties[self.node(node).id] = data

    def uncertainty(self, node: str) -> xr.Dataset | None:
        """What was kept of a step, or None."""
        return self._uncertainties.get(node)

    def close(self) -> None:
        """Nothing is held."""


def with_uncertainty(tree: xr.DataTree, uncertainty: xr.Dataset | None) -> xr.DataTree:
    """The results with what was kept of the last step, if anything was."""
    return tree if uncertainty is None else with_group(tree, "uncertainty", uncertainty)
