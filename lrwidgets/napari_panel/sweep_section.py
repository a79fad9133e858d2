"""Sweep over settings in the dock."""

from qtpy.QtWidgets import QComboBox, QLabel, QLineEdit, QProgressBar

from lrwidgets.gui import sweep_model
from lrwidgets.gui.sweep_model import SWEEP_PARAMETERS, SweepModel
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session
from lrwidgets.text import fields

WIDTH_PX = 170


class SweepSection(Section):
    """Try settings from the session's present step and take one over.

    The run stays as it is.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.model = SweepModel(session, self, self)
        self.params = [self._row(i) for i in range(sweep_model.ROWS)]
        self._build_drive()
        self.rows.addWidget(self.message)
        self._build_ranking()
        self.figure = FigureBox(self)
        self.rows.addWidget(self.figure)
        self.rows.addStretch(1)
        self._suggest(*self.params[0])

    def shut_down(self) -> None:
        """Stop the sweep, disconnect from the session and end the threads."""
        self.model.stop()
        super().shut_down()

    def show_busy(self, busy: bool) -> None:
        """Show whether a sweep runs."""
        self.start.setEnabled(not busy)
        self.stop.setEnabled(busy)
        self.bar.setVisible(busy)
        if not busy:
            self.progress.setText("")

    def show_progress(self, share: float, text: str) -> None:
        """Show the finished share, 0 to 1, and the progress in words."""
        self.bar.setValue(round(1000 * share))
        self.progress.setText(text)

    def show_ranking(self, lines: list[str]) -> None:
        """Offer the settings, the best first, and show the figure."""
        self.best.clear()
        self.best.addItems(lines)
        for widget in (self.best, self.use):
            widget.setVisible(True)
        self.figure.show_figure(lambda: self.model.figure(narrow=True))

    def _row(self, i: int) -> tuple[QComboBox, QLineEdit]:
        """Make the controls of a parameter and its values; only the first row has to have one."""
        name, typed = QComboBox(), QLineEdit()
        name.setObjectName(f"lrw-sweep-name-{i}")
        name.setFixedWidth(WIDTH_PX)
        if i > 0:
            name.addItem(sweep_model.SECOND_ROW, "")
        for parameter in SWEEP_PARAMETERS:
            name.addItem(fields.parameter_field(parameter).title, parameter)
        typed.setObjectName(f"lrw-sweep-values-{i}")
        typed.setPlaceholderText(sweep_model.VALUES_HINT)
        name.currentIndexChanged.connect(self.catch_errors(lambda _: self._suggest(name, typed)))
        self.row(name, typed)
        return name, typed

    def _suggest(self, name: QComboBox, typed: QLineEdit) -> None:
        typed.setText(self.model.suggested_values(name.currentData()))

    def _build_drive(self) -> None:
        self.subset = QLineEdit(f"{sweep_model.DEFAULT_SUBSET}")
        self.subset.setFixedWidth(60)
        self.start = self.button("sweep-start", "Sweep", sweep_model.START_TIP, self._start)
        self.stop = self.button("sweep-stop", "Stop", sweep_model.STOP_TIP, self.model.stop)
        self.stop.setEnabled(False)
        self.row(QLabel("particles"), self.subset, self.start, self.stop)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.bar.setVisible(False)
        self.progress = QLabel()
        self.rows.addWidget(self.bar)
        self.rows.addWidget(self.progress)

    def _build_ranking(self) -> None:
        self.best = QComboBox()
        self.best.setObjectName("lrw-sweep-best")
        self.best.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.best.setMinimumContentsLength(20)
        self.use = self.button("sweep-use", "Use", sweep_model.USE_TIP, self._use)
        self.use.setFixedWidth(60)
        self.row(self.best, self.use)
        for widget in (self.best, self.use):
            widget.setVisible(False)

    def _start(self) -> None:
        rows = [(str(name.currentData()), typed.text()) for name, typed in self.params]
        self.model.start(rows, self.subset.text())

    def _use(self) -> None:
        self.model.use(self.best.currentIndex() + 1)
