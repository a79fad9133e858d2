"""Sweep over settings from a panel: read what is typed, run it so that it can be stopped, take over a result."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from lrcore.errors import InputError
from lrcore.records import Progress
from lrcore.refinement.parameter_effects import unmet_need
from lrcore.refinement.parameters import RefineSpec
from lrwidgets import plots
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.session.engine import LRCORE_ENGINE, Engine
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import parse_values, ranking_lines, ranking_notes, settings_of_rank, spec_value, sweep
from lrwidgets.text import fields
from lrwidgets.text.parameters import edit_spec

ROWS = 2
"""Rows for a parameter and its values."""
SECOND_ROW = "second parameter (optional)"
VALUES_HINT = "values, separated by commas"
START_TIP = "run one iteration under each combination from the present step; the run stays as it is"
STOP_TIP = "end at the next chunk of particles"
USE_TIP = "use these settings from the next iteration"
SWEEP_PARAMETERS = (
    "rotation_prior_sd_deg", "shift_prior_sd_A", "prior", "fulcrum", "rotation_extent_deg", "shift_extent_A",
    "max_align_resolution_A", "marginalize", "non_uniform",
)  # fmt: skip
"""Parameters offered."""
DEFAULT_SUBSET = 2000
"""Number of particles of a sweep."""
PRIOR_WIDTHS = ("rotation_prior_sd_deg", "shift_prior_sd_A")
"""Parameters without effect unless the prior is Gaussian."""


def suggested_values(spec: RefineSpec, name: str) -> str:
    """Return values to begin with, as typed: all choices, or half, once and twice the present number."""
    field, now = fields.parameter_field(name), getattr(spec, name)
    if field.kind == "choice":
        return ", ".join(field.choices)
    if field.kind == "switch":
        return "false, true"
    if name == "fulcrum":
        return "mask; box" if now in ("mask", "box") else f"mask; {now}"
    limits = {"rotation_extent_deg": spec.rotation_limit_deg, "shift_extent_A": spec.shift_limit_A}
    middle = now or limits.get(name, 8.0)
    low, high = field.low or 0.0, field.high or np.inf
    wide = [
        fields.format_value(float(f"{factor * middle:.3g}")) for factor in (0.5, 1, 2) if low < factor * middle <= high
    ]
    return ", ".join(wide)


def parse_sweep(spec: RefineSpec, rows: Sequence[tuple[str, str]]) -> dict[str, list[Any]]:
    """Return what to sweep over from parameters and their values as typed.

    A prior width is swept with the Gaussian prior, without which it has no effect. Raises InputError for a parameter
    that occurs twice or has no value.
    """
    over: dict[str, list[Any]] = {}
    for name, typed in rows:
        if name in over:
            raise InputError(
                f"{fields.parameter_field(name).label}: it is given twice; write all its values in one row"
            )
        over[name] = parse_values(name, typed)
        if not over[name]:
            raise InputError(f"{fields.parameter_field(name).label}: type the values to try, separated by commas")
    if spec.prior != "gaussian" and "prior" not in over and any(name in over for name in PRIOR_WIDTHS):
        over = {"prior": ["gaussian"], **over}
    return over


def apply_ranked_settings(session: Session, result: xr.Dataset, rank: int) -> str:
    """Take over the settings of that rank, 1 the best, and return a message."""
    before, changes = session.spec, settings_of_rank(result, rank)
    spec = edit_spec(before, changes)
    session.edit(**{name: value for name, value in changes.items() if not unmet_need(name, spec)})
    when = "already in use" if session.spec == before else "in use from the next iteration"
    return f"{fields.describe_settings(changes)}: {when}"


class SweepRunner:
    """Sweeps over the settings of a session, one at a time."""

    def __init__(self, session: Session, report: Callable[[float, str], None], engine: Engine = LRCORE_ENGINE) -> None:
        """report: is called with the finished share, 0 to 1, and the progress in words."""
        self.engine = engine
        self._session, self._report = session, report
        self._stopped = threading.Event()

    def prepare(self, rows: Sequence[tuple[str, str]], subset: str) -> Callable[[], xr.Dataset | None]:
        """Return the sweep as a function for another thread, which returns None if it was stopped.

        Raises InputError for values that are refused, while an iteration runs, and where there is no step yet.
        """
        over, count = parse_sweep(self._session.spec, rows), _parse_particle_count(subset)
        if self._session.state.phase != "idle":
            raise InputError("an iteration is running: wait for its end, or stop it")
        if self._session.state.node is None:
            raise InputError("there is no step to continue from yet: run one")
        self._stopped.clear()
        return lambda: self._run(over, count)

    def stop(self) -> None:
        """End at the next chunk of particles."""
        self._stopped.set()

    def _run(self, over: dict[str, list[Any]], subset: int) -> xr.Dataset | None:
        self._report(0.0, "sweep …")
        for event in sweep(self._session, over, subset, self.engine):
            if self._stopped.is_set():
                return None
            if not isinstance(event, Progress):
                return event
            self._report(event.done / event.total, f"{event.done:,} of {event.total:,} particles")
        return None


class SweepView(Protocol):
    """View of a `SweepModel`."""

    def show_busy(self, busy: bool) -> None:
        """Show whether a sweep runs."""

    def show_progress(self, share: float, text: str) -> None:
        """Show the finished share, 0 to 1, and the progress in words."""

    def show_ranking(self, lines: list[str]) -> None:
        """Offer the settings, the best first, and show the model's figure."""


class SweepModel:
    """Sweep from the present step of a session; the run stays as it is. result: of the last sweep, or None."""

    def __init__(self, session: Session, panel: PanelBase, view: SweepView) -> None:
        self.session = session
        self.result: xr.Dataset | None = None
        self.runner = SweepRunner(session, self._report)
        self._panel, self._view = panel, view

    def suggested_values(self, name: str | None) -> str:
        """Return values to begin with, as typed; none without a parameter."""
        return suggested_values(self.session.spec, name) if name else ""

    def start(self, rows: Sequence[tuple[str, str]], subset: str) -> None:
        """Begin a sweep over the rows that have a parameter. Raises InputError as `SweepRunner.prepare` does."""
        work = self.runner.prepare([(name, typed) for name, typed in rows if name], subset)
        self._panel.show_message("")
        self._view.show_busy(True)
        self._panel.slow.submit(lambda: self._run(work), self._show, "sweep")

    def stop(self) -> None:
        """End at the next chunk of particles."""
        self.runner.stop()

    def use(self, rank: int) -> None:
        """Take over the settings of that rank, 1 the best."""
        if self.result is not None and rank > 0:
            self._panel.show_message(apply_ranked_settings(self.session, self.result, rank))

    def figure(self, narrow: bool = False) -> Figure:
        """Draw the result, which must exist. narrow: for a side panel."""
        assert self.result is not None
        return plots.sweep(self.result, narrow)

    def code(self) -> str:
        """Return Python that repeats the sweep."""
        assert self.result is not None
        result = self.result
        over = {str(name): [spec_value(value) for value in result[name].values] for name in result["rank"].dims}
        return (
            f"from lrwidgets.session.sweep import sweep\n*_, found = sweep(session, {over}, {result.attrs['images']})"
        )

    def _run(self, work: Callable[[], xr.Dataset | None]) -> xr.Dataset | None:
        try:
            return work()
        finally:
            self._panel.publisher.publish("progress", lambda: self._view.show_busy(False))

    def _report(self, share: float, text: str) -> None:
        self._panel.publisher.publish("progress", lambda: self._view.show_progress(share, text))

    def _show(self, result: xr.Dataset | None) -> None:
        if result is None:
            self._panel.show_message("stopped: nothing was added to the run")
            return
        self.result = result
        self._view.show_ranking(ranking_lines(result))
        self._panel.show_message("; ".join(ranking_notes(result)))


def _parse_particle_count(typed: str) -> int:
    """Return a number of particles as typed. Raises InputError for anything else."""
    text = typed.strip().replace(",", "") or str(DEFAULT_SUBSET)
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{typed}: type the number of particles to use")
    return int(text)
