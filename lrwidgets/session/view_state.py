"""What a view of a session shows, worked out from its snapshot alone: the same words in every face."""

from dataclasses import dataclass
from typing import Protocol

from lrcore.errors import InputError
from lrcore.records import IterationSummary
from lrcore.refinement.parameters import RefineSpec, spec_differences
from lrcore.results.store import StepNode
from lrwidgets.session.state import RunState
from lrwidgets.text.fields import format_value, parameter_field

PHASES = {
    "idle": "ready",
    "running": "running",
    "pausing": "pausing at the next chunk of particles",
    "paused": "paused",
    "stopping": "stopping at the next chunk of particles",
}


@dataclass(frozen=True)
class TreeRow:
    """A step in the tree. depth: of the branch it is on, 0 for the first. label: one line. here: the present one."""

    node: str
    depth: int
    label: str
    here: bool


@dataclass(frozen=True)
class ViewState:
    """A session as a person sees it.

    status: one line on what goes on; trouble: why the last work failed, or empty. share: of the stage at hand, 0 to 1.
    progress: stage and time left in words. busy, paused: what may be pressed. rows: the history, a line each. tree:
    all steps, branches below what they grew from. unrun: what the spec in force differs in from the present step's.
    """

    status: str
    failure: str
    share: float
    progress: str
    busy: bool
    paused: bool
    rows: tuple[IterationSummary, ...]
    tree: tuple[TreeRow, ...]
    pending_changes: str


class View(Protocol):
    """A face: it shows, and nothing else."""

    def show(self, state: ViewState) -> None:
        """Show this in place of what was shown before."""


def make_view_state(spec: RefineSpec, state: RunState) -> ViewState:
    """What to show of a session in this state whose next iteration has this spec."""
    present = next((node for node in state.tree if node.id == state.node), None)
    status = PHASES[state.phase]
    if state.phase == "idle" and state.message:
        status = f"{status}: {state.message}"
    return ViewState(
        status=status,
        failure=state.error,
        share=state.done / state.total if state.total else 0.0,
        progress=_progress(state),
        busy=state.phase != "idle",
        paused=state.phase in ("pausing", "paused"),
        rows=state.summaries,
        tree=_tree(state),
        pending_changes=describe_differences(present.spec, spec) if present else "",
    )


def describe_differences(before: RefineSpec, after: RefineSpec) -> str:
    """In what a spec differs from another, for a person; empty if in nothing."""
    return ", ".join(
        f"{parameter_field(name).title} {format_value(old) or 'auto'} → {format_value(new) or 'auto'}"
        for name, (old, new) in spec_differences(before, after).items()
    )


def format_remaining_time(left: float) -> str:
    """A time to wait."""
    if left < 90:
        return f"{left:.0f} s"
    return f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"


def number(text: str) -> int:
    """How many iterations. Raises InputError if it is no whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"{text!r} iterations: write a whole number above 0, or leave it empty to run to the end")
    return int(text)


def _progress(state: RunState) -> str:
    """Iteration, stage, how far, and how long it lasts."""
    if not state.total:
        return ""
    what = state.stage if state.iteration == 0 else f"iteration {state.iteration}, {state.stage}"
    left = state.spent_s / state.done * (state.total - state.done) if state.done else 0.0
    wait = f", {format_remaining_time(left)} left" if 0 < state.done < state.total else ""
    return f"{what}: {state.done:,} of {state.total:,} particles{wait}"


def _tree(state: RunState) -> tuple[TreeRow, ...]:
    """The steps depth first, so that each stands below the one it grew from: its branches, then its own line."""
    nodes = {node.id: node for node in state.tree}
    children: dict[str | None, list[StepNode]] = {}
    for node in state.tree:
        children.setdefault(node.parent, []).append(node)
    known = {summary.iteration: summary.resolution_corrected_A for summary in state.summaries}
    path = _path(state, nodes)
    found: list[TreeRow] = []
    waiting = [(node, 0) for node in reversed(children.get(None, []))]
    while waiting:
        node, depth = waiting.pop()
        resolution = known.get(node.iteration) if node.id in path else None
        label = _label(node, nodes.get(node.parent or ""), resolution)
        found.append(TreeRow(node.id, depth, label, node.id == state.node))
        below = children.get(node.id, [])
        waiting += [(own, depth) for own in below[:1]]
        waiting += [(branch, depth + 1) for branch in reversed(below[1:])]
    return tuple(found)


def _label(node: StepNode, parent: StepNode | None, resolution_A: float | None) -> str:
    """Iteration, resolution if it is known, and what is other than in the step that it grew from."""
    words = f"iteration {node.iteration}" if node.iteration else "start"
    if resolution_A is not None:
        words += f", {resolution_A:.2f} Å"
    differs = [describe_differences(parent.spec, node.spec)] if parent and parent.spec != node.spec else []
    if parent and parent.mask != node.mask:
        differs.append("another mask")
    return f"{words}  [{'; '.join(differs)}]" if differs else words


def _path(state: RunState, nodes: dict[str, StepNode]) -> set[str]:
    """The present step and those that led to it."""
    path: set[str] = set()
    at = state.node
    while at is not None:
        path.add(at)
        at = nodes[at].parent
    return path
