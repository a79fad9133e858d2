"""Sweep over settings in the notebook."""

import ipywidgets as w

from lrwidgets.gui import sweep_model
from lrwidgets.gui.sweep_model import SWEEP_PARAMETERS, SweepModel
from lrwidgets.jupyter.base import ROW, Panel
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.session.session import Session
from lrwidgets.text import fields


class SweepWidget(Panel):
    """Try settings from the session's present step and take one over; the run stays as it is."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.model = SweepModel(session, self, self)
        self.rows = [self._row(i) for i in range(sweep_model.ROWS)]
        self._build()
        self._suggest(*self.rows[0])

    def close(self) -> None:
        """Stop the sweep, disconnect from the session and end the threads."""
        self.model.stop()
        super().close()

    def show_busy(self, busy: bool) -> None:
        """Show whether a sweep runs."""
        self.start.disabled, self.stop.disabled = busy, not busy
        self.bar.layout.display = "" if busy else "none"
        if not busy:
            self.progress.value = ""

    def show_progress(self, share: float, text: str) -> None:
        """Show the finished share, 0 to 1, and the progress in words."""
        self.bar.value, self.progress.value = share, text

    def show_ranking(self, lines: list[str]) -> None:
        """Offer the settings, the best first, and show the figure."""
        with self.best.hold_sync():
            self.best.options, self.best.value = [(line, rank) for rank, line in enumerate(lines, 1)], 1
        self.best.layout.display = self.use.layout.display = ""
        self.figure.show_figure(self.model.figure, "Sweep", "sweep", self.model.code())

    def _row(self, i: int) -> tuple[w.Dropdown, w.Text]:
        """Make the controls of a parameter and its values; only the first row has to have one."""
        options = [(fields.parameter_field(name).title, name) for name in SWEEP_PARAMETERS]
        options = options if i == 0 else [(sweep_model.SECOND_ROW, ""), *options]
        name = w.Dropdown(options=options, layout=w.Layout(width="260px")).add_class(f"lrw-sweep-name-{i}")
        typed = w.Text(placeholder=sweep_model.VALUES_HINT, layout=w.Layout(width="260px"))
        typed.add_class(f"lrw-sweep-values-{i}")
        name.observe(self.catch_errors(lambda _: self._suggest(name, typed)), "value")
        return name, typed

    def _suggest(self, name: w.Dropdown, typed: w.Text) -> None:
        typed.value = self.model.suggested_values(name.value)

    def _build(self) -> None:
        model = self.model
        self.subset = w.Text(
            value=f"{sweep_model.DEFAULT_SUBSET}", description="particles", layout=w.Layout(width="160px")
        )
        self.subset.add_class("lrw-sweep-subset")
        self.start = self.button("sweep-start", "Sweep", sweep_model.START_TIP, self._start, "primary")
        self.stop = self.button("sweep-stop", "Stop", sweep_model.STOP_TIP, model.stop)
        self.stop.disabled = True
        self.bar = w.FloatProgress(min=0.0, max=1.0, layout=w.Layout(width="160px", height="16px", display="none"))
        self.progress = w.Label().add_class("lrw-sweep-words")
        self.figure = FigureView(self).add_class("lrw-sweep-figure")
        self.best = w.Dropdown(options=[], layout=w.Layout(width="520px", display="none")).add_class("lrw-sweep-best")
        self.use = self.button("sweep-use", "Use", sweep_model.USE_TIP, lambda: model.use(self.best.value or 0))
        self.use.layout.display = "none"
        drive = [self.subset, self.start, self.stop, self.bar, self.progress]
        lines = [w.HBox(list(row), layout=ROW) for row in (*self.rows, drive)]
        best = w.HBox([self.best, self.use], layout=ROW)
        self.widget = w.VBox([*lines, self.message, best, self.figure]).add_class("lrw-sweep")

    def _start(self) -> None:
        self.model.start([(name.value, typed.value) for name, typed in self.rows], self.subset.value)
