"""Run iterations in the notebook."""

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as w

from lrwidgets.gui.run_model import GROUPS, TIPS, AdviceRow, RunModel, figure_tip, pending_text, tree_label
from lrwidgets.jupyter.base import AUTO, ROW, Panel
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.jupyter.parameter_form import ParameterForm
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import TreeRow, ViewState
from lrwidgets.text.fields import parameter_fields

PREVIEW_CODE = "from lrwidgets.session.step_analysis import preview_results\npreview_results(session)"
INDENT = "\N{NO-BREAK SPACE}" * 4


class RunWidget(Panel):
    """Drive a session and show it. Stop and Pause are toggles, which reach a kernel that is busy with a cell."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.model = RunModel(session, self, self)
        self._build_drive()
        self._build_steps()
        self.form = ParameterForm(self, session, [field.name for field in parameter_fields()], "run")
        drive = w.HBox([self.step, self.run, self.count, self.pause, self.stop, self.preview], layout=ROW)
        progress = w.HBox([self.status, self.bar, self.progress], layout=ROW)
        choices = w.HBox([self.rewind, self.branch, self.compare])
        steps = w.VBox([w.HTML("<b>Steps</b>"), self.tree, choices], layout=w.Layout(flex="0 0 auto"))
        lines = w.VBox([self.history, self.advice], layout=w.Layout(flex="1 1 auto", min_width="0"))
        columns = w.HBox([steps, lines], layout=w.Layout(align_items="flex-start"))
        boxes = [w.HBox([self.form.controls[f.name] for f in parameter_fields(name)], layout=ROW) for name, _ in GROUPS]
        settings = w.Accordion(boxes, titles=tuple(f"Settings: {title.lower()}" for _, title in GROUPS))
        self.previewed = w.HTML().add_class("lrw-run-previewed")
        self.preview_figure = FigureView(self, layout=w.Layout(display="none")).add_class("lrw-run-preview-figure")
        preview = [self.previewed, self.preview_figure]
        rows = [drive, progress, self.pending, self.message, columns, *preview, settings]
        self.widget = w.VBox(rows).add_class("lrw-run")
        self.model.start()

    # --- setters

    def show_state(self, state: ViewState) -> None:
        """Show status, progress, pending changes, and which buttons can be pressed."""
        self.status.value = html.escape(state.status)
        self.bar.value, self.progress.value = state.share, state.progress
        self.bar.layout.display = "" if state.progress else "none"
        self.stop.disabled = self.pause.disabled = not state.busy
        self.pause.value, self.pause.description = state.paused, "Resume" if state.paused else "Pause"
        self.stop.value = self.stop.value and state.busy
        pending = pending_text(state)
        self.pending.value = f"<i>{html.escape(pending)}</i>" if pending else ""

    def show_history(self, table: str) -> None:
        """Show the history, an HTML table with a row for each iteration."""
        self.history.value = f'<div style="overflow-x: auto; font-size: 12px">{table}</div>' if table else ""

    def show_tree(self, rows: Sequence[TreeRow], selected: str | None) -> None:
        """List the steps and select one of them."""
        options = [(tree_label(row, INDENT), row.node) for row in rows]
        with self.tree.hold_sync():
            self.tree.options = options
            self.tree.value = selected if selected in dict(options).values() else None

    def selected_node(self) -> str | None:
        """Return the selected step."""
        return None if self.tree.value is None else str(self.tree.value)

    def show_advice(self, rows: Sequence[AdviceRow]) -> None:
        """Show advice in place of the last."""
        self.advice.children = [self._advice_row(i, row) for i, row in enumerate(rows)]

    def show_preview(self, text: str) -> None:
        """Show what the last preview found, and the figure of it; an empty text hides both."""
        self.previewed.value = html.escape(text)
        self.preview_figure.layout.display = "" if text else "none"
        if text:
            self.preview_figure.show_figure(self.model.preview_figure, "Preview", "preview", PREVIEW_CODE)

    # --- controls

    def _build_drive(self) -> None:
        model = self.model
        self.step = self._button("step", model.step, "primary")
        self.run = self._button("run", lambda: model.run(self.count.value), "primary")
        self.count = w.Text(placeholder="all", tooltip=TIPS["count"], layout=w.Layout(width="64px"))
        self.count.add_class("lrw-run-count")
        self.pause = self._toggle("pause", model.set_paused)
        self.stop = self._toggle("stop", lambda on: model.stop() if on else None)
        self.preview = self._button("preview", model.preview)
        self.status = w.HTML().add_class("lrw-run-status")
        self.bar = w.FloatProgress(min=0.0, max=1.0, layout=w.Layout(width="200px", height="16px"))
        self.progress = w.Label().add_class("lrw-run-progress")
        self.pending = w.HTML().add_class("lrw-run-unrun")

    def _build_steps(self) -> None:
        self.rewind = self._button("rewind", self.model.rewind)
        self.branch = self._button("branch", self.model.branch)
        self.compare = self._button("compare", self.model.compare)
        self.history = w.HTML().add_class("lrw-run-history")
        self.tree = w.Select(options=[], rows=9, layout=w.Layout(width="420px")).add_class("lrw-run-tree")
        self.advice = w.VBox([]).add_class("lrw-run-advice")

    def _button(self, name: str, act: Callable[[], Any], style: str = "") -> w.Button:
        return self.button(f"run-{name}", name.capitalize(), TIPS[name], act, style)

    def _toggle(self, name: str, act: Callable[[bool], Any]) -> w.ToggleButton:
        toggle = w.ToggleButton(description=name.capitalize(), tooltip=TIPS[name], disabled=True, layout=AUTO)

        def changed(change: Any) -> None:
            if not self.model.silent.is_active:
                act(change["new"])

        toggle.observe(self.catch_errors(changed), "value")
        return toggle.add_class(f"lrw-run-{name}")

    def _advice_row(self, i: int, row: AdviceRow) -> w.Widget:
        finding, model = row.finding, self.model
        remedy = f"<br><b>{html.escape(row.remedy)}</b>" if row.remedy else ""
        text = w.HTML(f"{html.escape(row.words)}{remedy}", layout=w.Layout(flex="1 1 auto"))
        buttons = []
        if finding.has_fix:
            apply = partial(model.apply, finding)
            buttons.append(self.button(f"run-advice-apply-{i}", "Apply as branch", TIPS["apply"], apply, "info"))
        if row.figure:
            show = partial(model.figure_requested.emit, row.figure)
            buttons.append(self.button(f"run-advice-show-{i}", "Show", figure_tip(row.figure), show))
        for button in buttons:
            button.layout = w.Layout(width="auto", flex="0 0 auto")
        return w.HBox([*buttons, text], layout=w.Layout(align_items="center"))
