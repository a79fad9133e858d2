"""A sweep as a person asks for it in a face: what to try, how far it is, and a way to stop it."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrcore.errors import InputError
from lrcore.records import Progress
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.session.engine import LRCORE_ENGINE, Engine
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import parse_values, settings_of_rank, sweep
from lrwidgets.text import fields

SWEEP_PARAMETERS = (
    "rotation_prior_sd_deg", "shift_prior_sd_A", "prior", "fulcrum", "rotation_extent_deg", "shift_extent_A",
    "max_align_resolution_A", "marginalize", "non_uniform",
)  # fmt: skip
"""Parameters that are offered."""
DEFAULT_SUBSET = 2000
"""Particles that are tried with."""
PRIOR_WIDTHS = ("rotation_prior_sd_deg", "shift_prior_sd_A")
"""Of no effect unless the prior is a Gaussian of these."""


def suggested_values(spec: RefineSpec, name: str) -> str:
    """Values to begin with, as typed: all that there are to choose, or half of, as it is, and twice of a number."""
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
    """Parameters with values as typed → what to sweep over. A width is tried with the prior that has it.

    Raises InputError for a parameter that is there twice, or has no value.
    """
    over: dict[str, list[Any]] = {}
    for name, typed in rows:
        if name in over:
            raise InputError(f"{fields.parameter_field(name).label}: it is there twice; give all its values in one row")
        over[name] = parse_values(name, typed)
        if not over[name]:
            raise InputError(f"{fields.parameter_field(name).label}: type the values to try, with commas between them")
    if spec.prior != "gaussian" and "prior" not in over and any(name in over for name in PRIOR_WIDTHS):
        over = {"prior": ["gaussian"], **over}
    return over


def apply_ranked_settings(session: Session, found: xr.Dataset, rank: int) -> str:
    """Take over the settings of that rank, 1 the best, and say so."""
    before, changes = session.spec, settings_of_rank(found, rank)
    session.edit(**changes)
    return (
        f"{fields.describe_settings(changes)}: {'as it is' if session.spec == before else 'from the next iteration on'}"
    )


class SweepRunner:
    """Sweeps over the settings of a session, one at a time. tell: told how far it is, 0 to 1, in words."""

    def __init__(self, session: Session, tell: Callable[[float, str], None], engine: Engine = LRCORE_ENGINE) -> None:
        self._session, self._tell, self._engine = session, tell, engine
        self._ended = threading.Event()

    def prepare(self, rows: Sequence[tuple[str, str]], subset: str) -> Callable[[], xr.Dataset | None]:
        """What to do on another thread: the sweep, or None if it is stopped. Raises InputError for what it refuses."""
        over, count = parse_sweep(self._session.spec, rows), _parse_particle_count(subset)
        if self._session.state.phase != "idle":
            raise InputError("an iteration is being worked on: wait for its end, or stop it")
        if self._session.state.node is None:
            raise InputError("there is no step to go on from yet: run one")
        self._ended.clear()
        return lambda: self._run(over, count)

    def stop(self) -> None:
        """End at the next chunk of particles."""
        self._ended.set()

    def _run(self, over: dict[str, list[Any]], subset: int) -> xr.Dataset | None:
        self._tell(0.0, "sweep …")
        for event in sweep(self._session, over, subset, self._engine):
            if self._ended.is_set():
                return None
            if not isinstance(event, Progress):
                return event
            self._tell(event.done / event.total, f"{event.done:,} of {event.total:,} particles")
        return None


def _parse_particle_count(typed: str) -> int:
    """A number of particles as typed. Raises InputError for another thing."""
    text = typed.strip().replace(",", "") or str(DEFAULT_SUBSET)
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{typed}: give how many particles to try with")
    return int(text)
