"""The run: step, pause, stop; how far it is; a line for each iteration; the tree of steps; advice."""

from collections.abc import Callable

from napari.utils import progress
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.comparison import Comparison
from lrcore.errors import InputError
from lrwidgets.napari_panel.parameter_form import ParameterFormLayout
from lrwidgets.napari_panel.section import BAD, Section
from lrwidgets.plots.catalogue import FIGURE_OF_FINDING, MAPS
from lrwidgets.session.advice import apply_finding, findings
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import ViewState, make_view_state, parse_iteration_count
from lrwidgets.text import formatting

FIELDS = ("marginalize", "non_uniform", "subtract_outside", "max_iterations")
PREVIEWED = 500
INDENT = "    "


class RunSection(Section):
    """Drives a session and shows it.

    compared: emitted with what *Compare* found. wanted: with the name of a figure that somebody asks to see.
    """

    comparison_done = Signal(object)
    figure_requested = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._shown: ViewState | None = None
        self._here: str | None = None
        self._advised: str | None = None
        self._activity: progress | None = None
        self._drive()
        self._progress()
        self._steps()
        self.form = ParameterFormLayout(self, session, FIELDS)
        self.rows.addLayout(self.form)
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)
        self.connect(session.state_changed, lambda _: self._publish())
        self.connect(session.spec_changed, lambda _: self._publish())
        self.show_state(make_view_state(session.spec, session.state))

    def shut_down(self) -> None:
        """Let go of the session, and end the threads."""
        self._follow(None)
        super().shut_down()

    # --- the controls

    def _drive(self) -> None:
        button, session = self.button, self.session
        self.step = button("run-step", "Step", "one iteration", session.step)
        self.run = button("run-run", "Run", "so many iterations, or until it has converged", self._run)
        self.count = QLineEdit()
        self.count.setPlaceholderText("all")
        self.count.setFixedWidth(44)
        self.count.setToolTip("how many iterations; empty: until it has converged")
        self.pause = button("run-pause", "Pause", "halt at the next chunk of particles, or go on", self._pause)
        self.stop = button("run-stop", "Stop", "end at the next chunk; whole steps are kept", session.stop)
        self.preview = button(
            "run-preview", "Preview", f"one iteration of {PREVIEWED} particles, not kept", self._preview
        )
        self.row(self.step, self.run, self.count, self.pause, self.stop, self.preview)

    def _progress(self) -> None:
        self.status = QLabel()
        self.status.setObjectName("lrw-run-status")
        self.status.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.progress = QLabel()
        self.unrun = QLabel()
        self.unrun.setWordWrap(True)
        for widget in (self.status, self.bar, self.progress, self.unrun):
            self.rows.addWidget(widget)

    def _steps(self) -> None:
        self.history = QPlainTextEdit()
        self.history.setReadOnly(True)
        self.history.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        font = QFont("monospace")
        font.setStyleHint(QFont.StyleHint.Monospace)
        font.setPointSize(8)
        self.history.setFont(font)
        self.history.setFixedHeight(110)
        self.tree = QListWidget()
        self.tree.setObjectName("lrw-run-tree")
        self.tree.setFixedHeight(130)
        self.rows.addWidget(self.history)
        self.rows.addWidget(self.tree)
        button = self.button
        self.row(
            button("run-rewind", "Rewind", "go on from the chosen step", self._rewind),
            button("run-branch", "Branch", "go on from the chosen step as it was run", self._branch),
            button("run-compare", "Compare", "the chosen step with the present one", self._compare),
        )
        self.advice = QVBoxLayout()
        self.rows.addLayout(self.advice)

    # --- what is asked for

    def _run(self) -> None:
        text = self.count.text().strip()
        self.session.run(parse_iteration_count(text) if text else None)

    def _pause(self) -> None:
        paused = self.session.state.phase in ("pausing", "paused")
        (self.session.resume if paused else self.session.pause)()

    def _preview(self) -> None:
        self.session.preview(PREVIEWED)

    def _chosen(self) -> str:
        item = self.tree.currentItem()
        if item is None:
            raise InputError("no step is chosen: run one, and choose it in the list")
        return str(item.data(Qt.ItemDataRole.UserRole))

    def _rewind(self) -> None:
        self.session.rewind(self._chosen())

    def _branch(self) -> None:
        self.session.branch(self._chosen())

    def _compare(self) -> None:
        chosen = self._chosen()
        self.show_message("comparing …", "")
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

    # --- what is shown

    def _publish(self) -> None:
        self.relay.publish("state", lambda: self.show_state(make_view_state(self.session.spec, self.session.state)))

    def show_state(self, state: ViewState) -> None:
        """Show the state."""
        before, self._shown = self._shown, state
        self.status.setText(state.status)
        self.bar.setValue(round(1000 * state.share))
        self.bar.setVisible(bool(state.progress))
        self.progress.setText(state.progress)
        self.progress.setVisible(bool(state.progress))
        self.pause.setEnabled(state.busy)
        self.pause.setText("Resume" if state.paused else "Pause")
        self.stop.setEnabled(state.busy)
        self.unrun.setText(f"from the next iteration on: {state.pending_changes}" if state.pending_changes else "")
        self.unrun.setVisible(bool(state.pending_changes))
        self._follow(state)
        if before is None or before.failure != state.failure:
            self.show_message(state.failure, BAD)
        if before is None or before.history != state.history:
            lines = (
                [formatting.HISTORY_HEADER, *map(formatting.format_iteration, state.history)] if state.history else []
            )
            self.history.setPlainText("\n".join(lines))
        if before is None or before.tree != state.tree:
            self._show_tree(state)
        self._advise(state)

    def _follow(self, state: ViewState | None) -> None:
        """The same progress in napari's activity dock, as long as something runs."""
        busy = state is not None and state.busy and bool(state.progress)
        if not busy:
            if self._activity is not None:
                self._activity.close()
                self._activity = None
            return
        assert state is not None
        if self._activity is None:
            self._activity = progress(total=1000, desc="local refinement")
        self._activity.n = round(1000 * state.share)
        self._activity.set_description(state.progress)

    def _show_tree(self, state: ViewState) -> None:
        """The tree; what is chosen stays chosen, until the present step is another one."""
        here = next((branch.node for branch in state.tree if branch.is_present), None)
        item = self.tree.currentItem()
        chosen = here if here != self._here or item is None else item.data(Qt.ItemDataRole.UserRole)
        self._here = here
        self.tree.clear()
        for branch in state.tree:
            made = QListWidgetItem(f"{INDENT * branch.depth}{'▶ ' if branch.is_present else ''}{branch.label}")
            made.setData(Qt.ItemDataRole.UserRole, branch.node)
            made.setToolTip(branch.label)
            self.tree.addItem(made)
            if branch.node == chosen:
                self.tree.setCurrentItem(made)

    def choose(self, node: str) -> None:
        """Choose a step in the list, as a click does."""
        for i in range(self.tree.count()):
            if self.tree.item(i).data(Qt.ItemDataRole.UserRole) == node:
                self.tree.setCurrentRow(i)

    def _advise(self, state: ViewState) -> None:
        """Ask for advice on the present step, once it is another one and nothing runs on."""
        if state.busy or self._here == self._advised:
            return
        self._advised = here = self._here
        self._show_advice(())  # what was found in another step is not for this one
        if here is not None:
            self.latest.submit(lambda: findings(self.session, here), self._show_advice, "advice")

    def _show_advice(self, found: tuple[Finding, ...]) -> None:
        while self.advice.count():
            old = self.advice.takeAt(0).widget()
            old.setParent(None)
            old.deleteLater()
        for i, advice in enumerate(found):
            self.advice.addWidget(self._one(i, advice))

    def _one(self, i: int, advice: Finding) -> QWidget:
        box = QWidget()
        line = QHBoxLayout(box)
        line.setContentsMargins(0, 0, 0, 0)
        text = QLabel(f"{advice.finding}\n{advice.remedy}".strip())
        text.setWordWrap(True)
        line.addWidget(text, 1)
        if advice.has_fix:
            tip = "go on from this step with the change; the other way is kept"
            line.addWidget(self.button(f"run-advice-{i}", "Apply as branch", tip, _apply_callback(self._apply, advice)))
        figure = FIGURE_OF_FINDING.get(advice.name, MAPS)
        if figure != MAPS:  # which lie in the viewer
            tip = f"the figure that shows it: {figure}"
            line.addWidget(self.button(f"run-advice-show-{i}", "Show", tip, lambda: self.figure_requested.emit(figure)))
        return box


def _apply_callback(act: Callable[[Finding], None], advice: Finding) -> Callable[[], None]:
    return lambda: act(advice)
