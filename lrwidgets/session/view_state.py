"""Derive what a view of a session shows from its snapshot alone, with the same texts in every interface."""

from dataclasses import dataclass
from typing import Protocol

from lrcore.errors import InputError
from lrcore.records import IterationSummary
from lrcore.refinement.parameters import RefineSpec, spec_differences
from lrcore.results.store import StepNode
from lrwidgets.session.state import RunState
from lrwidgets.text.fields import format_value, parameter_field
from lrwidgets.text.interface_terms import in_interface_terms

PHASE_TEXT = {
    "idle": "ready",
    "running": "running",
    "pausing": "pausing at the next chunk of particles",
    "paused": "paused",
    "stopping": "stopping at the next chunk of particles",
}


@dataclass(frozen=True)
class TreeRow:
    """A row of the displayed tree.

    Attributes
    ----------
    node : id of the step
    depth : depth of its branch, 0 for the first
    label : one line of text
    is_present : True for the present step
    name : what the step is called in a sentence, see `step_names`
    """

    node: str
    depth: int
    label: str
    is_present: bool
    name: str = ""


@dataclass(frozen=True)
class ViewState:
    """State of a session as a view shows it.

    Attributes
    ----------
    status : one line about the phase and the last event
    failure : why the last work failed, or empty
    share : completed share of the present stage, 0 to 1
    progress : stage and remaining time as text
    busy, paused : which buttons are enabled
    history : one summary per iteration
    tree : all steps, each branch below the one that it starts from
    pending_changes : differences of the spec from that of the present step, or empty
    """

    status: str
    failure: str
    share: float
    progress: str
    busy: bool
    paused: bool
    history: tuple[IterationSummary, ...]
    tree: tuple[TreeRow, ...]
    pending_changes: str


class View(Protocol):
    """A view of a session: it displays a state and does nothing else."""

    def show(self, state: ViewState) -> None:
        """Replace what is displayed by this state."""


def make_view_state(spec: RefineSpec, state: RunState) -> ViewState:
    """Return what a view shows of a session in this state; spec: that of the next iteration."""
    present = next((node for node in state.tree if node.id == state.node), None)
    status = PHASE_TEXT[state.phase]
    if state.phase == "idle" and state.message:
        status = f"{status}: {state.message}"
    return ViewState(
        status=in_interface_terms(status),
        failure=in_interface_terms(state.error),
        share=state.done / state.total if state.total else 0.0,
        progress=_progress(state),
        busy=state.phase != "idle",
        paused=state.phase in ("pausing", "paused"),
        history=state.summaries,
        tree=_tree(state),
        pending_changes=describe_differences(present.spec, spec) if present else "",
    )


def describe_differences(before: RefineSpec, after: RefineSpec) -> str:
    """Describe the differences of two specs ("Rotation prior SD, ° 5 → 3"); empty if there are none."""
    return ", ".join(
        f"{parameter_field(name).title} {format_value(old) or 'auto'} → {format_value(new) or 'auto'}"
        for name, (old, new) in spec_differences(before, after).items()
    )


def format_remaining_time(left: float) -> str:
    """Format a time in seconds as "12 s", "5 min" or "2.5 h"."""
    if left < 90:
        return f"{left:.0f} s"
    return f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"


def parse_iteration_count(text: str) -> int:
    """Parse a number of iterations. Raises InputError if it is not a whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"{text!r} iterations: write a whole number above 0, or leave it empty to run to the end")
    return int(text)


def _progress(state: RunState) -> str:
    """Describe iteration, stage, processed particles and remaining time."""
    if not state.total:
        return ""
    stage = state.stage if state.iteration == 0 else f"iteration {state.iteration}, {state.stage}"
    remaining_s = state.spent_s / state.done * (state.total - state.done) if state.done else 0.0
    remaining = f", {format_remaining_time(remaining_s)} left" if 0 < state.done < state.total else ""
    return f"{stage}: {state.done:,} of {state.total:,} particles{remaining}"


def step_names(state: RunState) -> dict[str, str]:
    """Return the id of each step → its name in a sentence.

    "iteration 2" in a run without branches; else "iteration 2 (trunk)", or "iteration 2 of the branch with Shift prior
    SD, Å 3 → 0.97".
    """
    return {row.node: row.name for row in _tree(state)}


def _tree(state: RunState) -> tuple[TreeRow, ...]:
    """Return the rows of the tree: the trunk, then its branches, each below the whole of the one it starts from."""
    nodes = {node.id: node for node in state.tree}
    children: dict[str | None, list[StepNode]] = {}
    for node in state.tree:
        children.setdefault(node.parent, []).append(node)
    is_branched = any(len(below) > 1 for below in children.values())
    rows: list[TreeRow] = []
    waiting = [(node, 0) for node in reversed(children.get(None, []))]
    while waiting:
        first, depth = waiting.pop()
        chain = [first]
        while below := children.get(chain[-1].id):
            chain.append(below[0])
        parent = nodes.get(first.parent or "")
        suffix = "" if not is_branched else f" {_branch_name(first, parent)}" if parent and depth else " (trunk)"
        for node in chain:
            origin = f"from {_iteration_name(parent)}" if parent and depth and node is first else ""
            label = _label(node, nodes.get(node.parent or ""), state.resolutions_A.get(node.id), origin)
            rows.append(TreeRow(node.id, depth, label, node.id == state.node, _iteration_name(node) + suffix))
        waiting += [(other, depth + 1) for node in chain for other in reversed(children.get(node.id, [])[1:])]
    return tuple(rows)


def _label(node: StepNode, parent: StepNode | None, resolution_A: float | None, origin: str) -> str:
    """Return iteration, resolution if it is known, where its branch starts, and the differences from the parent."""
    label = _iteration_name(node)
    if resolution_A is not None:
        label += f", {resolution_A:.2f} Å"
    notes = [note for note in (origin, _changes(node, parent)) if note]
    return f"{label}  [{'; '.join(notes)}]" if notes else label


def _changes(node: StepNode, parent: StepNode | None) -> str:
    """Return the differences of a step's spec and mask from those of its parent; empty for none."""
    if parent is None:
        return ""
    other_mask = "another mask" if parent.mask != node.mask else ""
    return "; ".join(part for part in (describe_differences(parent.spec, node.spec), other_mask) if part)


def _branch_name(first: StepNode, parent: StepNode) -> str:
    changes = _changes(first, parent)
    return f"of the branch with {changes}" if changes else f"of the branch from {_iteration_name(parent)}"


def _iteration_name(node: StepNode) -> str:
    return f"iteration {node.iteration}" if node.iteration else "start"
