"""Sweep: several settings tried on some particles, ranked by held-out images; any of them is taken over by a click."""

import xarray as xr
from qtpy.QtWidgets import QComboBox, QLabel, QLineEdit, QProgressBar

from lrwidgets import plots
from lrwidgets.gui.sweep_runner import (
    DEFAULT_SUBSET,
    SWEEP_PARAMETERS,
    SweepRunner,
    apply_ranked_settings,
    suggested_values,
)
from lrwidgets.gui.threads import LatestTasks
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import ranking_lines
from lrwidgets.text import fields

ROWS = 2
NONE = "and …"
WIDTH_PX = 170


class SweepSection(Section):
    """Tries settings from the session's present step; the run is left as it is.

    found: what was found last, or None.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.found: xr.Dataset | None = None
        self._slow = LatestTasks(self.relay, self._failed)
        self._trying = SweepRunner(session, self._progress)
        self.params = [self._row(i) for i in range(ROWS)]
        self._drive()
        self.rows.addWidget(self.message)
        self.best = QComboBox()
        self.best.setObjectName("lrw-sweep-best")
        self.best.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.best.setMinimumContentsLength(20)
        self.use = self.button("sweep-use", "Use", "the next iteration has these settings", self._use)
        self.use.setFixedWidth(60)
        self.row(self.best, self.use)
        for widget in (self.best, self.use):
            widget.setVisible(False)
        self.figure = FigureBox(self)
        self.rows.addWidget(self.figure)
        self.rows.addStretch(1)
        self._offer(0)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything asked for is computed and written: whether it is. On Qt's thread."""
        return self._slow.flush(timeout) and super().flush(timeout)

    def shut_down(self) -> None:
        """End what is being tried, let go of the session, and end the threads."""
        self._trying.stop()
        self._slow.close()
        super().shut_down()

    def _row(self, i: int) -> tuple[QComboBox, QLineEdit]:
        """A parameter and its values. The first one has to be there."""
        name, typed = QComboBox(), QLineEdit()
        name.setObjectName(f"lrw-sweep-name-{i}")
        name.setFixedWidth(WIDTH_PX)
        if i > 0:
            name.addItem(NONE, "")
        for one in SWEEP_PARAMETERS:
            name.addItem(fields.parameter_field(one).title, one)
        typed.setObjectName(f"lrw-sweep-values-{i}")
        typed.setPlaceholderText("values, with commas between them")
        name.currentIndexChanged.connect(self.catch_errors(lambda _: self._offer(i)))
        self.row(name, typed)
        return name, typed

    def _offer(self, i: int) -> None:
        name, typed = self.params[i]
        typed.setText(suggested_values(self.session.spec, name.currentData()) if name.currentData() else "")

    def _drive(self) -> None:
        self.subset = QLineEdit(f"{DEFAULT_SUBSET}")
        self.subset.setFixedWidth(60)
        tip = "one iteration under each combination, from the present step; the run stays as it is"
        self.start = self.button("sweep-start", "Sweep", tip, self._begin)
        self.stop = self.button("sweep-stop", "Stop", "end at the next chunk of particles", self._trying.stop)
        self.stop.setEnabled(False)
        self.row(QLabel("particles"), self.subset, self.start, self.stop)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.bar.setVisible(False)
        self.words = QLabel()
        self.rows.addWidget(self.bar)
        self.rows.addWidget(self.words)

    def _begin(self) -> None:
        rows = [(name.currentData(), typed.text()) for name, typed in self.params if name.currentData()]
        work = self._trying.prepare(rows, self.subset.text())
        self.show_message("")
        self._busy(True)
        self._slow.submit(work, self._show, "sweep")

    def _busy(self, busy: bool) -> None:
        self.start.setEnabled(not busy)
        self.stop.setEnabled(busy)
        self.bar.setVisible(busy)
        if not busy:
            self.words.setText("")

    def _progress(self, share: float, words: str) -> None:
        def write() -> None:
            self.bar.setValue(round(1000 * share))
            self.words.setText(words)

        self.relay.publish("progress", write)

    def _failed(self, error: Exception) -> None:
        self.relay.publish("progress", lambda: self._busy(False))
        self.show_error(error)

    def _show(self, found: xr.Dataset | None) -> None:
        self.relay.publish("progress", lambda: self._busy(False))
        if found is None:
            self.show_message("stopped: nothing was added to the run")
            return
        self.found = found
        self.best.clear()
        self.best.addItems(ranking_lines(found))
        for widget in (self.best, self.use):
            widget.setVisible(True)
        self.figure.show_figure(lambda: plots.sweep(found, narrow=True))

    def _use(self) -> None:
        """Take over the chosen settings."""
        if self.found is not None:
            self.show_message(apply_ranked_settings(self.session, self.found, self.best.currentIndex() + 1))
