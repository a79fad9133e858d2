"""Run iterations of a session: drive it, choose among its steps, show its state, advise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from matplotlib.figure import Figure
from psygnal import Signal

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.comparison import Comparison
from lrcore.errors import InputError
from lrcore.records import Step
from lrwidgets import plots
from lrwidgets.gui.history_table import history_html
from lrwidgets.gui.panel_base import PanelBase, ProgrammaticChange
from lrwidgets.plots.catalogue import FIGURE_OF_FINDING
from lrwidgets.session.advice import apply_finding, findings
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import preview_results
from lrwidgets.session.view_state import TreeRow, ViewState, make_view_state, parse_iteration_count, step_names
from lrwidgets.text.interface_terms import in_interface_terms

GROUPS = (("search", "Search"), ("reference", "Reference"), ("run", "Run"))
"""Groups of the parameters of the form, which has all of them: name and title."""
PREVIEW_PARTICLES = 500
TIPS = {
    "step": "run one iteration",
    "run": "run this number of iterations, or until convergence",
    "count": "number of iterations; empty: until convergence",
    "pause": "pause at the next chunk of particles, or resume",
    "stop": "stop at the next chunk of particles; finished steps are kept",
    "preview": f"run one iteration of {PREVIEW_PARTICLES} particles, which is not kept",
    "rewind": "continue from the selected step with the present settings",
    "branch": "continue from the selected step with the settings it was run with",
    "compare": "compare the selected step with the current one",
    "apply": "continue from this step with the change; the present branch is kept",
}
"""Tooltips of the controls."""


@dataclass(frozen=True)
class AdviceRow:
    """Advice as a panel shows it: in its terms, with the name of the figure that shows the evidence, or ""."""

    finding: Finding
    words: str
    remedy: str
    figure: str


class RunView(Protocol):
    """View of a `RunModel`."""

    def show_state(self, state: ViewState) -> None:
        """Show status, progress, pending changes, and which buttons can be pressed."""

    def show_history(self, table: str) -> None:
        """Show the history, an HTML table with a row for each iteration; empty before the start."""

    def show_tree(self, rows: Sequence[TreeRow], selected: str | None) -> None:
        """List the steps and select one of them."""

    def selected_node(self) -> str | None:
        """Return the selected step."""
        ...

    def show_advice(self, rows: Sequence[AdviceRow]) -> None:
        """Show advice in place of the last."""

    def show_preview(self, text: str) -> None:
        """Show what the last preview found, and the model's figure of it; an empty text hides both."""


class RunModel:
    """Drive a session and show its state.

    Attributes
    ----------
    comparison_done
        Emits the result of `compare`.
    figure_requested
        Emits the name of a figure to show. Without a listener no advice has a figure.
    silent
        Context in which the view sets its own controls.
    """

    comparison_done = Signal(Comparison)
    figure_requested = Signal(str)

    def __init__(self, session: Session, panel: PanelBase, view: RunView, shown_elsewhere: Sequence[str] = ()) -> None:
        """shown_elsewhere: figures that advice need not show."""
        self.session = session
        self.silent = ProgrammaticChange()
        self._panel, self._view, self._shown_elsewhere = panel, view, shown_elsewhere
        self._shown: ViewState | None = None
        self._present: str | None = None
        self._advised: str | None = None
        self._previewed: Step | None = None
        self._compared_with: str | None = None

    def start(self) -> None:
        """Show the session, and follow it."""
        self._panel.subscribe(self.session.state_changed, lambda _: self._publish())
        self._panel.subscribe(self.session.spec_changed, lambda _: self._publish())
        self._publish()

    # --- actions

    def step(self) -> None:
        """Run one iteration."""
        self.session.step()

    def run(self, typed: str) -> None:
        """Run a number of iterations as typed; empty: until convergence. Raises InputError for anything else."""
        text = typed.strip()
        self.session.run(parse_iteration_count(text) if text else None)

    def set_paused(self, paused: bool) -> None:
        """Pause at the next chunk of particles, or resume."""
        (self.session.pause if paused else self.session.resume)()

    def toggle_pause(self) -> None:
        """Pause, or resume if paused."""
        self.set_paused(self.session.state.phase not in ("pausing", "paused"))

    def stop(self) -> None:
        """Stop at the next chunk of particles."""
        self.session.stop()

    def preview(self) -> None:
        """Run one iteration of a few particles, which is not kept."""
        self.session.preview(PREVIEW_PARTICLES)

    def rewind(self) -> None:
        """Continue from the selected step. Raises InputError if none is selected."""
        self.session.rewind(self._selected())

    def branch(self) -> None:
        """Continue from the selected step with its settings. Raises InputError if none is selected."""
        self.session.branch(self._selected())

    def compare(self) -> None:
        """Compare the selected step with the current one. Raises InputError if none is selected."""
        selected = self._selected()
        self._panel.show_message("comparing …", "neutral")
        self._panel.latest.submit(lambda: self.session.compare(selected), self._show_comparison, "compare")

    def apply(self, finding: Finding) -> None:
        """Branch from the current step as the advice says."""
        node = self.session.state.node
        assert node is not None  # advice is on a step
        apply_finding(self.session, node, finding)
        self._panel.show_message(f"branched: {finding.remedy}; press Step or Run to see the effect")

    def _selected(self) -> str:
        node = self._view.selected_node()
        if node is None:
            raise InputError("no step is selected: run one, and select it in the list")
        return node

    def _show_comparison(self, result: Comparison) -> None:
        self._panel.show_message(name_steps(result, self.session).summary_line)
        self.comparison_done.emit(result)

    # --- state

    def _publish(self) -> None:
        self._panel.publisher.publish(
            "state", lambda: self.show(make_view_state(self.session.spec, self.session.state))
        )

    def show(self, state: ViewState) -> None:
        """Show a state; what has not changed is left alone. On the publisher's thread."""
        before, self._shown = self._shown, state
        with self.silent():
            self._view.show_state(state)
        if before is None or before.failure != state.failure:
            self._panel.show_message(state.failure, "bad")
        if before is None or before.history != state.history:
            self._view.show_history(history_html(state.history))
        if before is None or before.tree != state.tree:
            self._show_tree(state.tree)
        self._show_preview()
        self._request_advice(state)

    def _show_preview(self) -> None:
        """Show another preview; it goes with the step that it was to be compared with."""
        state = self.session.state
        if state.preview is not None and state.preview is not self._previewed:
            self._previewed, self._compared_with = state.preview, state.node
            self._view.show_preview(preview_text(state))
        elif self._previewed is not None and self._compared_with != state.node:
            self._view.show_preview("")

    def preview_figure(self, narrow: bool = False) -> Figure:
        """Draw the last preview, which must exist, with the present step. narrow: for a side panel."""
        found = preview_results(self.session)
        assert found is not None
        return plots.preview(found, self.session.results() if self.session.state.node else None, narrow)

    def _show_tree(self, rows: Sequence[TreeRow]) -> None:
        """Show the tree; the selected step stays selected until the current step is another one."""
        present = next((row.node for row in rows if row.is_present), None)
        selected = self._view.selected_node()
        if present != self._present or selected is None:
            selected = present
        self._present = present
        with self.silent():
            self._view.show_tree(rows, selected)

    def _request_advice(self, state: ViewState) -> None:
        """Request advice on the current step, once it is another one and nothing runs."""
        if state.busy or self._present == self._advised:
            return
        self._advised = node = self._present
        self.show_findings(())  # those of another step do not apply to this one
        if node is not None:
            self._panel.latest.submit(lambda: findings(self.session, node), self.show_findings, "advice")

    def show_findings(self, found: Sequence[Finding]) -> None:
        """Show findings as advice."""
        self._view.show_advice([self._advice(finding) for finding in found])

    def _advice(self, finding: Finding) -> AdviceRow:
        words, remedy = in_interface_terms(finding.finding), in_interface_terms(finding.remedy)
        return AdviceRow(finding, words, remedy, self._figure_of(finding))

    def _figure_of(self, finding: Finding) -> str:
        figure = FIGURE_OF_FINDING.get(finding.name, "")
        return "" if figure in self._shown_elsewhere or not len(self.figure_requested) else figure


def name_steps(found: Comparison, session: Session) -> Comparison:
    """Return a comparison whose sentences and figure call the steps by their names in the tree instead of by ids."""
    names, verdict = step_names(session.state), found.verdict
    for node in found.names:
        verdict = verdict.replace(node[:9], names.get(node, node))
    first, second = (names.get(node, node) for node in found.names)
    return replace(found, names=(first, second), verdict=verdict)


def tree_label(row: TreeRow, indent: str) -> str:
    """Return a step as a line of the tree. indent: for each branch that it lies below the first."""
    return f"{indent * row.depth}{'▶ ' if row.is_present else ''}{row.label}"


def preview_text(state: RunState) -> str:
    """Return what a preview found, compared with the present step, in one line."""
    assert state.preview is not None
    found, count = state.preview.history[-1], len(state.preview.expectation.poses.rotation)
    present = f" (present step, all particles: {state.resolutions_A[state.node]:.2f} Å)" if state.node else ""
    return (
        f"Preview of {count:,} particles, not kept: {found.resolution_corrected_A:.2f} Å{present}; median change from "
        f"the input {found.angle_from_input_deg:.2f}° and {found.shift_from_input_A:.2f} Å; at the extents "
        f"{100 * found.at_rotation_extent:.1f} % and {100 * found.at_shift_extent:.1f} %"
    )


def pending_text(state: ViewState) -> str:
    """Return the changes that the next iteration will use; empty if there are none."""
    return f"from the next iteration: {state.pending_changes}" if state.pending_changes else ""


def figure_tip(figure: str) -> str:
    """Return the tooltip of the button that shows a figure."""
    return f"show the evidence: {figure}"
