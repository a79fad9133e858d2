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
    """Node of the tree of steps.

    Attributes
    ----------
    id : name of the node, unique in its run
    parent : id of the step that it was computed from; None for step 0
    iteration : number of the iteration
    spec : parameters that the step was run with
    mask : digest of the mask that the step was run with
    """

    id: str
    parent: str | None
    iteration: int
    spec: RefineSpec
    mask: str


class StepStore(ABC):
    """Tree of the steps of a run; steps are appended and never changed."""

    def __init__(self) -> None:
        self._nodes: dict[str, StepNode] = {}

    @abstractmethod
    def append(self, step: Step, parent: str | None, job: Job) -> StepNode:
        """Store a step, which becomes the head.

        Parameters
        ----------
        step : the step
        parent : id of the node that the step was computed from; None for step 0
        job : the job that the step was run with; its spec and mask are stored with the step

        Returns
        -------
        StepNode
            The new node.

        Raises
        ------
        InputError
            If the step cannot be written; the store is then unchanged.
        """

    @abstractmethod
    def load(self, node: str) -> Step:
        """Return the step of a node, bit for bit as it was appended. Raises InputError if there is none, or damaged."""

    @abstractmethod
    def mask(self, node: str) -> Volume | None:
        """Return the mask that a node was run with; None means the mask that the run was started with."""

    @abstractmethod
    def history(self, node: str) -> tuple[IterationSummary, ...]:
        """Return the summaries of all iterations up to a node."""

    @abstractmethod
    def results(self, node: str | None = None) -> xr.DataTree:
        """Return the results of all steps from step 0 to a node.

        Parameters
        ----------
        node : id of the last node; None means the head

        Returns
        -------
        xarray.DataTree
            Results by `lrcore.results.schema`, with the uncertainty of the last step if it is stored.
        """

    @property
    def read_only(self) -> bool:
        """Return True if steps cannot be appended."""
        return False

    @abstractmethod
    def store_whole_maps(self, node: str, step: Step) -> None:
        """Store the whole half maps and FSC curves of a step beside it; it is loaded with them from now on.

        Parameters
        ----------
        node : id of the step
        step : the step with its whole half maps, from `make_whole_maps`

        Raises
        ------
        InputError
            If they cannot be written; the store is then unchanged.
        """

    @abstractmethod
    def store_uncertainty(self, node: str, data: xr.Dataset) -> None:
        """Store the uncertainty of a step, from `uncertainty_dataset`, in place of one stored earlier."""

    @abstractmethod
    def uncertainty(self, node: str) -> xr.Dataset | None:
        """Return the stored uncertainty of a step, or None."""

    @abstractmethod
    def close(self) -> None:
        """Release resources; nothing can be appended afterwards."""

    def tree(self) -> tuple[StepNode, ...]:
        """Return all nodes in the order of writing."""
        return tuple(self._nodes.values())

    @property
    def head(self) -> StepNode | None:
        """Return the newest node; None in an empty run."""
        return next(reversed(self._nodes.values()), None)

    def node(self, node: str | None = None) -> StepNode:
        """Return the node of that id, or the head for None. Raises InputError if there is none."""
        found = self.head if node is None else self._nodes.get(node)
        if found is None:
            raise InputError(
                f"run: there is no step {node}: choose a step of its tree" if node else "run: has no step yet"
            )
        return found

    def path_to(self, node: str | None = None) -> tuple[StepNode, ...]:
        """Return the nodes from step 0 to `node` (the head by default)."""
        path = [self.node(node)]
        while path[0].parent is not None:
            path.insert(0, self._nodes[path[0].parent])
        return tuple(path)


class MemoryStore(StepStore):
    """Run that is kept in memory only."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._steps: dict[str, Step] = {}
        self._masks: dict[str, Volume] = {}
        self._uncertainties: dict[str, xr.Dataset] = {}

    def append(self, step: Step, parent: str | None, job: Job) -> StepNode:
        """Store a step; see `StepStore`."""
        mask = volume_fingerprint(job.mask)["digest"]
        node = StepNode(f"{step.iteration:04d}-{len(self._nodes):04d}", parent, step.iteration, job.spec, mask)
        self._steps[node.id] = step
        self._masks.setdefault(mask, job.mask)
        self._nodes[node.id] = node
        return node

    def load(self, node: str) -> Step:
        """Return the step of a node."""
        return self._steps[self.node(node).id]

    def mask(self, node: str) -> Volume | None:
        """Return the mask of a node, also if it is the one that the run was started with."""
        return self._masks[self.node(node).mask]

    def history(self, node: str) -> tuple[IterationSummary, ...]:
        """Return the summaries of all iterations up to a node."""
        return self.load(node).history

    def results(self, node: str | None = None) -> xr.DataTree:
        """Return the results up to a node; see `StepStore`."""
        path = self.path_to(node)
        job = replace(self._job, spec=path[-1].spec, mask=self._masks[path[-1].mask])
        specs, masks = [n.spec for n in path], [self._masks[n.mask] for n in path]
        tree = to_tree(job, [self._steps[n.id] for n in path], specs=specs, masks=masks)
        return with_uncertainty(tree, self.uncertainty(path[-1].id))

    def store_whole_maps(self, node: str, step: Step) -> None:
        """Replace a step by itself with its whole half maps."""
        self._steps[self.node(node).id] = step

    def store_uncertainty(self, node: str, data: xr.Dataset) -> None:
        """Store the uncertainty of a step."""
        self._uncertainties[self.node(node).id] = data

    def uncertainty(self, node: str) -> xr.Dataset | None:
        """Return the stored uncertainty of a step, or None."""
        return self._uncertainties.get(node)

    def close(self) -> None:
        """Do nothing, because there is nothing to release."""


def with_uncertainty(tree: xr.DataTree, uncertainty: xr.Dataset | None) -> xr.DataTree:
    """Return the results with the uncertainty of the last step, if there is one."""
    return tree if uncertainty is None else with_group(tree, "uncertainty", uncertainty)
