"""The run: step, pause, stop; how far it is; a line for each iteration; the tree of steps; advice."""

import html
from collections.abc import Callable, Sequence

import ipywidgets as w
from psygnal import Signal

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.comparison import Comparison
from lrcore.errors import InputError
from lrcore.records import IterationSummary
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.jupyter.base import BAD, Panel
from lrwidgets.jupyter.parameter_form import ParameterForm
from lrwidgets.jupyter.slices import ProgrammaticChange
from lrwidgets.plots.catalogue import FIGURE_OF_FINDING
from lrwidgets.session.advice import apply_finding, findings
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.view_state import ViewState, make_view_state, parse_iteration_count
from lrwidgets.text import formatting

Act = Callable[[], None]
INDENT = "\N{NO-BREAK SPACE}" * 4
AUTO = w.Layout(width="auto")
NARROW = w.Layout(width="64px")
ROW = w.Layout(align_items="center", flex_flow="row wrap")
SPEC_FIELDS = ("marginalize", "non_uniform", "subtract_outside", "max_iterations")
PREVIEWED = 500


class RunWidget(Panel):
    """Drives a session and shows it. Stop and pause are toggles, which reach a kernel that is busy with a cell.

    compared: emitted with what *compare* found. wanted: with the name of a figure that somebody asks to see.
    """

    comparison_done = Signal(Comparison)
    figure_requested = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._shown: ViewState | None = None
        self._silent = ProgrammaticChange()
        self._here: str | None = None
        self._advised: str | None = None
        self._build()
        self.connect(session.state_changed, self._changed)
        self.connect(session.spec_changed, self._edited)
        self._publish()

    # --- what is asked for ---

    def _build(self) -> None:
        button = self._button
        self.step = button("Step", "lrw-run-step", "one iteration", lambda: self.session.step(), "primary")
        self.run = button("Run", "lrw-run-run", "so many iterations, or until it has converged", self._run, "primary")
        self.count = w.Text(
            placeholder="all", tooltip="how many iterations; empty: until it has converged", layout=NARROW
        )
        self.count.add_class("lrw-run-count")
        self.pause = self._toggle("Pause", "lrw-run-pause", "halt at the next chunk of particles", self._pause)
        self.stop = self._toggle("Stop", "lrw-run-stop", "end at the next chunk; whole steps are kept", self._stop)
        self.preview = button(
            "Preview", "lrw-run-preview", f"one iteration of {PREVIEWED} particles, not kept", self._preview
        )
        self.rewind = button("Rewind", "lrw-run-rewind", "go on from the chosen step", self._rewind)
        self.branch = button("Branch", "lrw-run-branch", "go on from the chosen step as it was run", self._branch)
        self.compare = button("Compare", "lrw-run-compare", "the chosen step with the present one", self._compare)
        self.status = w.HTML().add_class("lrw-run-status")
        self.bar = w.FloatProgress(min=0.0, max=1.0, layout=w.Layout(width="200px", height="16px"))
        self.progress = w.Label().add_class("lrw-run-progress")
        self.unrun = w.HTML().add_class("lrw-run-unrun")
        self.history = w.HTML().add_class("lrw-run-history")
        self.tree = w.Select(options=[], rows=9, layout=w.Layout(width="300px")).add_class("lrw-run-tree")
        self.advice = w.VBox([]).add_class("lrw-run-advice")
        self.form = ParameterForm(self, self.session, SPEC_FIELDS, "run")
        drive = w.HBox([self.step, self.run, self.count, self.pause, self.stop, self.preview], layout=ROW)
        how_far = w.HBox([self.status, self.bar, self.progress], layout=ROW)
        choices = w.HBox([self.rewind, self.branch, self.compare])
        steps = w.VBox([w.HTML("<b>Steps</b>"), self.tree, choices], layout=w.Layout(flex="0 0 auto"))
        lines = w.VBox([self.history, self.advice], layout=w.Layout(flex="1 1 auto", min_width="0"))
        options = w.HBox(list(self.form.controls.values()), layout=ROW)
        self.widget = w.VBox([
            drive, how_far, self.unrun, w.HBox([steps, lines], layout=w.Layout(align_items="flex-start")),
            w.Accordion([options], titles=("How it is run",)), self.message,
        ]).add_class("lrw-run")  # fmt: skip

    def _button(self, text: str, css: str, tip: str, act: Act, style: str = "") -> w.Button:
        made = w.Button(description=text, tooltip=tip, button_style=style, layout=AUTO).add_class(css)
        made.on_click(self.catch_errors(lambda _: act()))
        return made

    def _toggle(self, text: str, css: str, tip: str, act: Act) -> w.ToggleButton:
        made = w.ToggleButton(description=text, tooltip=tip, disabled=True, layout=AUTO).add_class(css)
        made.observe(self.catch_errors(lambda _: None if self._silent.is_active else act()), "value")
        return made

    def _run(self) -> None:
        text = self.count.value.strip()
        self.session.run(parse_iteration_count(text) if text else None)

    def _pause(self) -> None:
        (self.session.pause if self.pause.value else self.session.resume)()

    def _stop(self) -> None:
        if self.stop.value:
            self.session.stop()

    def _preview(self) -> None:
        self.session.preview(PREVIEWED)

    def _chosen(self) -> str:
        if self.tree.value is None:
            raise InputError("no step is chosen: run one, and choose it in the list")
        return str(self.tree.value)

    def _rewind(self) -> None:
        self.session.rewind(self._chosen())

    def _branch(self) -> None:
        self.session.branch(self._chosen())

    def _compare(self) -> None:
        chosen = self._chosen()
        self.show_message("comparing …")
        self.latest.submit(lambda: self.session.compare(chosen), self._show_comparison, "compare")

    def _show_comparison(self, found: Comparison) -> None:
        self.show_message(found.summary_line)
        self.comparison_done.emit(found)

    def _apply(self, advice: Finding) -> None:
        """Branch as the advice says."""
        node = self.session.state.node
        assert node is not None  # advice is on a step
        apply_finding(self.session, node, advice)
        self.show_message(f"branched: {advice.remedy}; step or run to see what it does")

    # --- what is shown ---

    def _changed(self, _: RunState) -> None:
        self._publish()

    def _edited(self, _: RefineSpec) -> None:
        self._publish()

    def _publish(self) -> None:
        self.publisher.publish("state", lambda: self.show(make_view_state(self.session.spec, self.session.state)))

    def show(self, state: ViewState) -> None:
        """Show the state; on the publisher's thread."""
        before, self._shown = self._shown, state
        self.status.value = html.escape(state.status)
        self.bar.value, self.progress.value = state.share, state.progress
        self.bar.layout.display = "" if state.progress else "none"
        self.stop.disabled = self.pause.disabled = not state.busy
        with self._silent():
            self.pause.value = state.paused
            self.stop.value = self.stop.value and state.busy
        self.unrun.value = (
            f"<i>from the next iteration on: {html.escape(state.pending_changes)}</i>" if state.pending_changes else ""
        )
        if before is None or before.failure != state.failure:
            self.show_message(state.failure, BAD)
        if before is None or before.history != state.history:
            self.history.value = history_html(state.history)
        if before is None or before.tree != state.tree:
            self._show_tree(state)
        self._advise(state)

    def _show_tree(self, state: ViewState) -> None:
        """The tree; what is chosen stays chosen, until the present step is another one."""
        here = next((branch.node for branch in state.tree if branch.is_present), None)
        moved = here != self._here
        self._here = here
        chosen = here if moved else self.tree.value
        options = [(f"{INDENT * b.depth}{'▶ ' if b.is_present else ''}{b.label}", b.node) for b in state.tree]
        with self.tree.hold_sync():
            self.tree.options = options
            self.tree.value = chosen if chosen in dict(options).values() else None

    def _advise(self, state: ViewState) -> None:
        """Ask for advice on the present step, once it is another one and nothing runs on."""
        if state.busy or self._here == self._advised:
            return
        self._advised = here = self._here
        self.advice.children = ()  # what was found in another step is not for this one
        if here is not None:
            self.latest.submit(lambda: self._findings(here), self._show_advice, "advice")

    def _findings(self, node: str) -> tuple[Finding, ...]:
        return findings(self.session, node)

    def _show_advice(self, found: tuple[Finding, ...]) -> None:
        self.advice.children = [self._one(i, advice) for i, advice in enumerate(found)]

    def _one(self, i: int, advice: Finding) -> w.Widget:
        remedy = f"<br><b>{html.escape(advice.remedy)}</b>" if advice.remedy else ""
        text = w.HTML(f"{html.escape(advice.finding)}{remedy}", layout=w.Layout(flex="1 1 auto"))
        buttons, figure = [], FIGURE_OF_FINDING.get(advice.name)
        if advice.has_fix:
            tip = "go on from this step with the change; the other way is kept"
            name = f"lrw-run-advice-apply-{i}"
            buttons.append(self._button("Apply as branch", name, tip, lambda: self._apply(advice), "info"))
        if figure and len(self.figure_requested):
            name, tip = f"lrw-run-advice-show-{i}", f"the figure that shows it: {figure}"
            buttons.append(self._button("Show", name, tip, lambda: self.figure_requested.emit(figure)))
        for button in buttons:
            button.layout = w.Layout(width="auto", flex="0 0 auto")
        return w.HBox([*buttons, text], layout=w.Layout(align_items="center"))


def history_html(rows: Sequence[IterationSummary]) -> str:
    """The history as the command line prints it, as HTML; empty before the start."""
    if not rows:
        return ""
    text = html.escape("\n".join([formatting.HISTORY_HEADER, *map(formatting.format_iteration, rows)]))
    return (
        f'<pre style="line-height: 1.25; margin: 0; font-size: 11px; white-space: pre; overflow-x: auto">{text}</pre>'
    )
