"""Sweep: several settings tried on some particles, ranked by held-out images; any of them is taken over by a click."""

import ipywidgets as w
import xarray as xr

from lrwidgets import plots
from lrwidgets.gui.sweep_runner import (
    DEFAULT_SUBSET,
    SWEEP_PARAMETERS,
    SweepRunner,
    apply_ranked_settings,
    suggested_values,
)
from lrwidgets.gui.threads import LatestTasks
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import ranking_lines, spec_value
from lrwidgets.text import fields

ROWS = 2
NONE = ""
ROW = w.Layout(align_items="center", flex_flow="row wrap")
AUTO = w.Layout(width="auto")
CODE = "from lrwidgets.session.sweep import sweep\n*_, found = sweep(session, {}, {})"


def hidden_layout(width: str) -> w.Layout:
    """Of what is not there yet."""
    return w.Layout(width=width, display="none")


class SweepWidget(Panel):
    """Tries settings from the session's present step; the run is left as it is.

    found: what was found last, or None.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.found: xr.Dataset | None = None
        self._slow = LatestTasks(self.publisher, self._failed)
        self._trying = SweepRunner(session, self._progress)
        self._build()
        self._offer(self.rows[0])

    def close(self) -> None:
        """End what is being tried, let go of the session, and end the threads."""
        self._trying.stop()
        self._slow.close()
        super().close()

    def _build(self) -> None:
        self.rows = [self._row(i) for i in range(ROWS)]
        self.subset = w.Text(value=f"{DEFAULT_SUBSET}", description="particles", layout=w.Layout(width="160px"))
        self.subset.add_class("lrw-sweep-subset")
        self.start = w.Button(description="Sweep", button_style="primary", layout=AUTO).add_class("lrw-sweep-start")
        self.start.tooltip = "one iteration under each combination, from the present step; the run stays as it is"
        self.start.on_click(self.catch_errors(lambda _: self._begin()))
        self.stop = w.Button(description="Stop", disabled=True, layout=AUTO).add_class("lrw-sweep-stop")
        self.stop.on_click(self.catch_errors(lambda _: self._trying.stop()))
        self.bar = w.FloatProgress(min=0.0, max=1.0, layout=w.Layout(width="160px", height="16px", display="none"))
        self.words = w.Label().add_class("lrw-sweep-words")
        self.figure = FigureView(self).add_class("lrw-sweep-figure")
        self.best = w.Dropdown(options=[], layout=hidden_layout("520px")).add_class("lrw-sweep-best")
        self.use = w.Button(
            description="Use", tooltip="the next iteration has these settings", layout=hidden_layout("auto")
        )
        self.use.add_class("lrw-sweep-use").on_click(self.catch_errors(lambda _: self._use()))
        drive = w.HBox([self.subset, self.start, self.stop, self.bar, self.words], layout=ROW)
        rows = [w.HBox(list(row), layout=ROW) for row in self.rows]
        self.widget = w.VBox([*rows, drive, self.message, w.HBox([self.best, self.use], layout=ROW), self.figure])
        self.widget.add_class("lrw-sweep")

    def _row(self, i: int) -> tuple[w.Dropdown, w.Text]:
        """A parameter and its values. The first one has to be there."""
        options = [(fields.parameter_field(name).title, name) for name in SWEEP_PARAMETERS]
        name = w.Dropdown(options=options if i == 0 else [("and …", NONE), *options], layout=w.Layout(width="260px"))
        typed = w.Text(placeholder="values, with commas between them", layout=w.Layout(width="260px"))
        row = (name.add_class(f"lrw-sweep-name-{i}"), typed.add_class(f"lrw-sweep-values-{i}"))
        name.observe(self.catch_errors(lambda _: self._offer(row)), "value")
        return row

    def _offer(self, row: tuple[w.Dropdown, w.Text]) -> None:
        name, typed = row
        typed.value = suggested_values(self.session.spec, name.value) if name.value else ""

    def _begin(self) -> None:
        rows = [(name.value, typed.value) for name, typed in self.rows if name.value]
        work = self._trying.prepare(rows, self.subset.value)
        self.show_message("")
        self._busy(True)
        self._slow.submit(work, self._show, "sweep")

    def _busy(self, busy: bool) -> None:
        self.start.disabled, self.stop.disabled = busy, not busy
        self.bar.layout.display = "" if busy else "none"
        if not busy:
            self.words.value = ""

    def _progress(self, share: float, words: str) -> None:
        def write() -> None:
            self.bar.value, self.words.value = share, words

        self.publisher.publish("progress", write)

    def _failed(self, error: Exception) -> None:
        self.publisher.publish("progress", lambda: self._busy(False))
        self.show_error(error)

    def _show(self, found: xr.Dataset | None) -> None:
        self.publisher.publish("progress", lambda: self._busy(False))
        if found is None:
            self.show_message("stopped: nothing was added to the run")
            return
        self.found = found
        options = [(words, rank) for rank, words in enumerate(ranking_lines(found), 1)]
        with self.best.hold_sync():
            self.best.options, self.best.value = options, 1
        self.best.layout.display = self.use.layout.display = ""
        over = {str(name): [spec_value(value) for value in found[name].values] for name in found["rank"].dims}
        self.figure.show_figure(lambda: plots.sweep(found), "Sweep", "sweep", CODE.format(over, found.attrs["images"]))

    def _use(self) -> None:
        """Take over the chosen settings."""
        if self.found is not None and self.best.value:
            self.show_message(apply_ranked_settings(self.session, self.found, int(self.best.value)))
