"""Sweep: one iteration of a subset under each of several settings, ranked by how well it predicts held-out images."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from lrcore.analysis.held_out_likelihood import HeldOut
from lrcore.errors import InputError
from lrcore.particles.subsets import draw_balanced_subset, select_step_particles
from lrcore.records import IterationSummary, Progress, Step
from lrcore.refinement.job import Job
from lrcore.results.fingerprints import volume_fingerprint
from lrwidgets.session.engine import LRCORE_ENGINE, Engine, Events, map_kind
from lrwidgets.session.run_loop import START_FIELDS
from lrwidgets.session.session import Session
from lrwidgets.text import fields
from lrwidgets.text.formatting import format_fact
from lrwidgets.text.parameters import changes_from_text, edit_spec

MAX_SETTINGS = 200
"""Settings at most: each takes an iteration."""
AUTOMATIC = "auto"
"""What stands in a coordinate for a parameter that is not set."""
SWEEP_VARIABLES = {
    "gain": ("Log-likelihood of a held-out image over that with the first settings", "1"),
    "gain_standard_error": ("Its standard error over the images", "1"),
    "resolution_corrected": ("Resolution at corrected FSC 0.143, of the subset", "angstrom"),
    "angle_from_input": ("Median rotation angle from the input pose", "degree"),
    "at_rotation_extent": ("Share of particles at the rotation extent", "1"),
    "at_shift_extent": ("Share of particles at the shift extent", "1"),
}


def sweep(
    session: Session, over: Mapping[str, Sequence[Any]], subset: int = 2000, engine: Engine = LRCORE_ENGINE
) -> Iterator[Progress | xr.Dataset]:
    """One iteration of `subset` particles from the session's present step and mask under each combination of settings.

    over: field of the spec → values. Yields Progress, and at the end a Dataset with a dimension for each field, whose
    coordinates are the values, and the variables of MEASURED and `rank` (1 is best). Nothing is added to the run.
    Raises InputError for a field or value that is refused, for one that only a new start would show, and where there
    is no step to go on from.
    """
    node, last = session.load_step()
    specs, mask = _specs(session, over), session.mask
    _, first = session.load_step(session.path()[0].id)
    made, backend = session.job_of(node), engine.get_backend("auto", None)
    rows = draw_balanced_subset(made.particles.half, subset, made.spec.seed)
    made = replace(made, particles=made.particles.select(rows))
    first, last = select_step_particles(first, rows), select_step_particles(last, rows)
    begun, digest = {map_kind(node.spec, node.mask): last}, volume_fingerprint(mask)["digest"]
    base: tuple[Job, Step] | None = None
    lines: list[IterationSummary] = []
    found: list[HeldOut] = []
    for i, spec in enumerate(specs):
        trial = replace(made, spec=spec, mask=mask)
        kind = map_kind(spec, digest)
        if kind not in begun:
            begun[kind] = engine.adopt_step(trial, made, first, last, backend)
        step = yield from _step_with_progress(engine.advance(trial, first, begun[kind], backend), i, len(specs))
        base = base or (trial, step)
        lines.append(step.history[-1])
        found.append(engine.held_out(first, base, (trial, step), backend, len(rows)))
    columns = {name: [getattr(spec, name) for spec in specs] for name in over}
    kept = {name: list(dict.fromkeys(column)) for name, column in columns.items()}
    yield _dataset(kept, lines, found)


def parse_values(name: str, given: str) -> list[Any]:
    """Values of a parameter as typed, between commas, or between semicolons where they hold commas themselves."""
    parts = [part.strip() for part in given.split(";" if ";" in given else ",")]
    return [changes_from_text([f"{name}={part}"])[name] for part in parts if part]


def settings_of_rank(found: xr.Dataset, rank: int = 1) -> dict[str, Any]:
    """The settings of that rank in a sweep, 1 the best, as changes of a spec."""
    at = np.argwhere(found["rank"].values == rank)[0]
    picked = {str(dim): found[dim].values[i] for dim, i in zip(found["rank"].dims, at, strict=True)}
    return {name: spec_value(value) for name, value in picked.items()}


def spec_value(value: Any) -> Any:
    """A value of a coordinate as the spec has it."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value == AUTOMATIC else value


def _specs(session: Session, over: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The spec of every combination, the last field changing fastest."""
    if not over or not all(len(values) for values in over.values()):
        raise InputError("sweep: name a parameter and the values to try")
    count = int(np.prod([len(values) for values in over.values()]))
    if count > MAX_SETTINGS:
        raise InputError(f"sweep: {count} settings, each of which takes an iteration: give {MAX_SETTINGS} at most")
    for name in over:
        if name in START_FIELDS:
            raise InputError(f"sweep: {name} shapes the start of a run: begin a run with each value instead")
    combinations = (dict(zip(over, values, strict=True)) for values in product(*over.values()))
    return [edit_spec(session.spec, changes) for changes in combinations]


def _step_with_progress(events: Events, number: int, count: int) -> Generator[Progress, None, Step]:
    """The step among the events; progress counts the settings, too."""
    for event in events:
        if isinstance(event, Step):
            return event
        yield replace(event, stage="sweep", done=number * event.total + event.done, total=count * event.total)
    raise RuntimeError("the engine ended without a step")


def _dataset(over: Mapping[str, Sequence[Any]], lines: list[IterationSummary], found: list[HeldOut]) -> xr.Dataset:
    shape = [len(column) for column in over.values()]
    columns: dict[str, list[float]] = {
        "gain": [one.gain for one in found],
        "gain_standard_error": [one.error for one in found],
        "resolution_corrected": [line.resolution_corrected_A for line in lines],
        "angle_from_input": [line.angle_from_input_deg for line in lines],
        "at_rotation_extent": [line.at_rotation_extent for line in lines],
        "at_shift_extent": [line.at_shift_extent for line in lines],
    }
    data = {
        name: (tuple(over), np.reshape(columns[name], shape), {"long_name": words, "units": unit})
        for name, (words, unit) in SWEEP_VARIABLES.items()
    }
    order = np.argsort(np.argsort(-np.array(columns["gain"]), kind="stable"), kind="stable") + 1
    rank = (tuple(over), order.reshape(shape), {"long_name": "Rank, 1 is best", "units": "1"})
    coords = {
        name: (
            name,
            [AUTOMATIC if v is None else v for v in column],
            {"long_name": field.label, "units": field.unit or "1"},
        )
        for (name, column), field in zip(over.items(), map(fields.parameter_field, over), strict=True)
    }
    return xr.Dataset({**data, "rank": rank}, coords, {"images": len(found[0].rows), "iteration": lines[0].iteration})


def ranking_table(found: xr.Dataset) -> str:
    """The settings, best first, a line each, by the names that `--set` takes."""
    each = _format_ranking(
        found, lambda values: ", ".join(f"{name} {format_fact(value)}" for name, value in values.items())
    )
    return "\n".join(f"{rank:4d}  {line}" for rank, line in enumerate(each, 1))


def ranking_lines(found: xr.Dataset) -> list[str]:
    """The settings in words, with their worth and resolution, best first."""
    return _format_ranking(found, fields.describe_settings)


def _format_ranking(found: xr.Dataset, words: Callable[[Mapping[str, Any]], str]) -> list[str]:
    rows = found.to_dataframe().sort_values("rank").reset_index().to_dict("records")
    each = [words({str(name): row[name] for name in found["rank"].dims}) for row in rows]
    width = max(map(len, each))
    return [f"{said:{width}s}  {_format_score(row)}" for said, row in zip(each, rows, strict=True)]


def _format_score(row: Mapping[Any, Any]) -> str:
    return f"{row['gain']:+8.2f} ± {row['gain_standard_error']:.2f}  {row['resolution_corrected']:6.2f} Å"
