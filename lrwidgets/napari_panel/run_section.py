"""Run iterations in the dock."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from napari.utils import progress
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from lrwidgets.gui.run_model import TIPS, AdviceRow, RunModel, figure_tip, pending_text, tree_label
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.parameter_form import ParameterFormLayout
from lrwidgets.napari_panel.section import Section
from lrwidgets.plots.catalogue import MAPS
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import TreeRow, ViewState
from lrwidgets.text.fields import parameter_fields

INDENT = "    "


class RunSection(Section):
    """Drive a session and show it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.model = RunModel(session, self, self, shown_elsewhere=(MAPS,))  # maps are layers of the viewer
        self._activity: progress | None = None
        self._newest: ViewState | None = None
        self._is_making_activity = False
        self._build_drive()
        self._build_progress()
        self._build_steps()
        self.previewed, self.preview_figure = self.label("run-previewed"), FigureBox(self)
        self.rows.addWidget(self.preview_figure)
        self.previewed.setVisible(False)
        self.preview_figure.setVisible(False)
        self.form = ParameterFormLayout(self, session, [field.name for field in parameter_fields()])
        self.rows.addLayout(self.form)
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)
        self.model.start()

    def shut_down(self) -> None:
        """Disconnect from the session and end the threads."""
        self._show_activity(None)
        super().shut_down()

    # --- setters

    def show_state(self, state: ViewState) -> None:
        """Show status, progress, pending changes, and which buttons can be pressed."""
        self.status.setText(state.status)
        self.bar.setValue(round(1000 * state.share))
        self.bar.setVisible(bool(state.progress))
        self.progress.setText(state.progress)
        self.progress.setVisible(bool(state.progress))
        self.pause.setEnabled(state.busy)
        self.pause.setText("Resume" if state.paused else "Pause")
        self.stop.setEnabled(state.busy)
        self.pending.setText(pending_text(state))
        self.pending.setVisible(bool(state.pending_changes))
        self._show_activity(state)

    def show_history(self, table: str) -> None:
        """Show the history, an HTML table with a row for each iteration."""
        self.history.setHtml(table)

    def show_tree(self, rows: Sequence[TreeRow], selected: str | None) -> None:
        """List the steps and select one of them."""
        self.tree.clear()
        for row in rows:
            item = QListWidgetItem(tree_label(row, INDENT))
            item.setData(Qt.ItemDataRole.UserRole, row.node)
            item.setToolTip(row.label)
            self.tree.addItem(item)
            if row.node == selected:
                self.tree.setCurrentItem(item)

    def selected_node(self) -> str | None:
        """Return the selected step."""
        item = self.tree.currentItem()
        return None if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def choose(self, node: str) -> None:
        """Select a step in the list, as a click does."""
        for i in range(self.tree.count()):
            if self.tree.item(i).data(Qt.ItemDataRole.UserRole) == node:
                self.tree.setCurrentRow(i)

    def show_advice(self, rows: Sequence[AdviceRow]) -> None:
        """Show advice in place of the last."""
        while self.advice.count():
            old = self.advice.takeAt(0).widget()
            old.setParent(None)
            old.deleteLater()
        for i, row in enumerate(rows):
            self.advice.addWidget(self._advice_row(i, row))

    def show_preview(self, text: str) -> None:
        """Show what the last preview found, and the figure of it; an empty text hides both."""
        self.previewed.setText(text)
        for widget in (self.previewed, self.preview_figure):
            widget.setVisible(bool(text))
        if text:
            self.preview_figure.show_figure(lambda: self.model.preview_figure(narrow=True), self.model.preview_figure)

    def _show_activity(self, state: ViewState | None) -> None:
        """Show the progress in napari's activity dock too, as long as something runs.

        A new entry makes Qt handle events, so that this method may be called again before there is one.
        """
        self._newest = state
        if self._is_making_activity:
            return
        if self._activity is None and state is not None and state.busy:
            self._is_making_activity = True
            try:
                self._activity = progress(total=1000, desc="local refinement")
            finally:
                self._is_making_activity = False
        state, activity = self._newest, self._activity
        if activity is None:
            return
        if state is None or not state.busy:
            self._activity = None
            activity.close()
            return
        activity.update(round(1000 * state.share) - activity.n)
        activity.set_description(state.progress or "local refinement")

    # --- controls

    def _build_drive(self) -> None:
        model = self.model
        self.step = self._button("step", model.step)
        self.run = self._button("run", lambda: model.run(self.count.text()))
        self.count = QLineEdit()
        self.count.setPlaceholderText("all")
        self.count.setFixedWidth(44)
        self.count.setToolTip(TIPS["count"])
        self.pause = self._button("pause", model.toggle_pause)
        self.stop = self._button("stop", model.stop)
        self.preview = self._button("preview", model.preview)
        self.row(self.step, self.run, self.count, self.pause, self.stop, self.preview)

    def _build_progress(self) -> None:
        self.status = self.label("run-status")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.progress = QLabel()
        self.rows.addWidget(self.bar)
        self.rows.addWidget(self.progress)
        self.pending = self.label()

    def _build_steps(self) -> None:
        self.history = QTextBrowser()
        self.history.setLineWrapMode(QTextBrowser.LineWrapMode.NoWrap)
        font = self.history.font()
        font.setPointSize(8)
        self.history.setFont(font)
        self.history.setFixedHeight(110)
        self.tree = QListWidget()
        self.tree.setObjectName("lrw-run-tree")
        self.tree.setFixedHeight(130)
        self.rows.addWidget(self.history)
        self.rows.addWidget(self.tree)
        model = self.model
        acts = {"rewind": model.rewind, "branch": model.branch, "compare": model.compare}
        self.row(*(self._button(name, act) for name, act in acts.items()))
        self.advice = QVBoxLayout()
        self.rows.addLayout(self.advice)

    def _button(self, name: str, act: Callable[[], Any]) -> QPushButton:
        return self.button(f"run-{name}", name.capitalize(), TIPS[name], act)

    def _advice_row(self, i: int, row: AdviceRow) -> QWidget:
        box, finding, model = QWidget(), row.finding, self.model
        line = QHBoxLayout(box)
        line.setContentsMargins(0, 0, 0, 0)
        text = QLabel(f"{row.words}\n{row.remedy}".strip())
        text.setWordWrap(True)
        line.addWidget(text, 1)
        if finding.has_fix:
            apply = partial(model.apply, finding)
            line.addWidget(self.button(f"run-advice-{i}", "Apply as branch", TIPS["apply"], apply))
        if row.figure:
            show = partial(model.figure_requested.emit, row.figure)
            line.addWidget(self.button(f"run-advice-show-{i}", "Show", figure_tip(row.figure), show))
        return box
