"""Sweep parameters: run one iteration of a subset with each combination, and rank them by held-out images."""

import hashlib
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
from lrcore.refinement.parameter_effects import acts_from, unmet_need
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.window_cache import WindowCache
from lrcore.results.fingerprints import volume_fingerprint
from lrcore.results.store import StepNode
from lrwidgets.session.engine import LRCORE_ENGINE, Engine, Events, map_kind
from lrwidgets.session.run_loop import START_FIELDS
from lrwidgets.session.session import Session
from lrwidgets.text import fields
from lrwidgets.text.formatting import format_for_display
from lrwidgets.text.parameters import changes_from_text, edit_spec

MAX_SETTINGS = 200
"""Most combinations of a sweep: each takes an iteration."""
AUTOMATIC = "auto"
"""Coordinate value of a parameter that is not set."""
SWEEP_VARIABLES = {
    "gain": ("Log-likelihood of a held-out image, relative to the first settings", "1"),
    "gain_standard_error": ("Its standard error over the images", "1"),
    "resolution_corrected": ("Resolution at corrected FSC 0.143, of the subset", "angstrom"),
    "angle_from_input": ("Median rotation angle from the input pose", "degree"),
    "at_rotation_extent": ("Share of particles at the rotation extent", "1"),
    "at_shift_extent": ("Share of particles at the shift extent", "1"),
}


def sweep(
    session: Session, over: Mapping[str, Sequence[Any]], subset: int = 2000, engine: Engine = LRCORE_ENGINE
) -> Iterator[Progress | xr.Dataset]:
    """Run one iteration of a subset with each combination of settings, and rank them by held-out images.

    Each iteration starts from the session's present step and mask. All are scored in the same way: with the mask, the
    window and the subtraction of the session's present spec. Nothing is added to the run.

    Parameters
    ----------
    session : the session
    over : field of `RefineSpec` → values to try
    subset : number of particles
    engine : the functions that compute; lrcore's by default

    Yields
    ------
    Progress | xarray.Dataset
        Progress and, last, a Dataset with a dimension for each field, whose coordinates are the values, and the
        variables of SWEEP_VARIABLES, `rank` (1 is best), and `same_step`, the best rank with the same bits.

    Raises
    ------
    InputError
        If a field or value is invalid, if a field has no effect on the iteration, or if there is no step yet.
    """
    node, last = session.load_step()
    specs, mask = _specs(session, over, node), session.mask
    _, first = session.load_step(session.path()[0].id)
    made, backend = session.job_of(node), replace(engine.get_backend("auto", None), windows=WindowCache())
    rows = draw_balanced_subset(made.particles.half, subset, made.spec.seed)
    made = replace(made, particles=made.particles.select(rows))
    first, last = select_step_particles(first, rows), select_step_particles(last, rows)
    adopted, digest = {map_kind(node.spec, node.mask): last}, volume_fingerprint(mask)["digest"]
    scoring = replace(made, spec=edit_spec(session.spec, {"max_align_resolution_A": None}), mask=mask)
    base: tuple[Job, Step] | None = None
    summaries: list[IterationSummary] = []
    scores: list[HeldOut] = []
    digests: list[bytes] = []
    for i, spec in enumerate(specs):
        trial = replace(made, spec=spec, mask=mask)
        kind = map_kind(spec, digest)
        if kind not in adopted:
            adopted[kind] = engine.adopt_step(trial, made, first, last, backend)
        step = yield from _step_with_progress(engine.run_iteration(trial, first, adopted[kind], backend), i, len(specs))
        base = base or (scoring, step)
        summaries.append(step.history[-1])
        scores.append(engine.held_out(first, base, (scoring, step), backend, len(rows)))
        digests.append(_digest(step))
    columns = {name: [getattr(spec, name) for spec in specs] for name in over}
    distinct = {name: list(dict.fromkeys(column)) for name, column in columns.items()}
    yield _dataset(distinct, summaries, scores, digests)


def parse_values(name: str, given: str) -> list[Any]:
    """Parse values of a parameter, separated by commas, or by semicolons if a value contains commas.

    Raises InputError if the parameter does not exist.
    """
    parts = [part.strip() for part in given.split(";" if ";" in given else ",")]
    return [changes_from_text([f"{name}={part}"])[name] for part in parts if part]


def settings_of_rank(ranking: xr.Dataset, rank: int = 1) -> dict[str, Any]:
    """Return the settings of a rank in a sweep (1 is best) as changes of a spec."""
    index = np.argwhere(ranking["rank"].values == rank)[0]
    values = {str(dim): ranking[dim].values[i] for dim, i in zip(ranking["rank"].dims, index, strict=True)}
    return {name: spec_value(value) for name, value in values.items()}


def spec_value(value: Any) -> Any:
    """Convert the value of a coordinate to that of the spec: AUTOMATIC becomes None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value == AUTOMATIC else value


def _specs(session: Session, over: Mapping[str, Sequence[Any]], node: StepNode) -> list[RefineSpec]:
    """Return the spec of every combination; the last field varies fastest. node: of the present step."""
    if not over or not all(len(values) for values in over.values()):
        raise InputError("sweep: name a parameter and the values to try")
    count = int(np.prod([len(values) for values in over.values()]))
    if count > MAX_SETTINGS:
        raise InputError(f"sweep: {count} settings, each of which takes an iteration: give {MAX_SETTINGS} at most")
    combinations = (dict(zip(over, values, strict=True)) for values in product(*over.values()))
    specs = [edit_spec(session.spec, changes) for changes in combinations]
    for name in over:
        reason = sweep_refusal(name, specs, node)
        if reason:
            raise InputError(f"sweep: {name} {reason}")
    return specs


def sweep_refusal(name: str, specs: Sequence[RefineSpec], node: StepNode) -> str:
    """Return why a field has no effect on the iteration after a step, or none that can be ranked; empty if it has."""
    acts = acts_from(name)
    if acts == "end of the run":
        return "decides when a run ends and changes no iteration"
    if name == "seed":
        return "changes nothing but random numbers, so that a ranking would be by chance"
    if name in START_FIELDS:
        only = "only " if acts == "first iteration" else ""
        return f"affects {only}the start of a run: start a run with each value instead"
    if acts == "second iteration" and node.iteration == 0:
        return "has no effect on the first iteration, and the present step is the start: run an iteration first"
    if name == "per_particle_scale" and not node.spec.per_particle_scale:
        return (
            "weights images by the amplitudes that the iteration before estimated, and that was run without it: run an "
            "iteration with per_particle_scale=true first"
        )
    reasons = [unmet_need(name, spec) for spec in specs]
    return reasons[0] if all(reasons) else ""


def _digest(step: Step) -> bytes:
    """Return a digest of the poses and the half maps of a step."""
    poses, maps = step.expectation.poses, step.half_maps
    digest = hashlib.blake2b(digest_size=16)
    for array in (poses.rotation, poses.origin_A, maps.first.data, maps.second.data):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _step_with_progress(events: Events, number: int, count: int) -> Generator[Progress, None, Step]:
    """Return the step among the events, and yield progress over all combinations."""
    for event in events:
        if isinstance(event, Step):
            return event
        yield replace(event, stage="sweep", done=number * event.total + event.done, total=count * event.total)
    raise RuntimeError("the engine ended without a step")


def _dataset(
    over: Mapping[str, Sequence[Any]], summaries: list[IterationSummary], scores: list[HeldOut], digests: list[bytes]
) -> xr.Dataset:
    """Return the results of a sweep, with a dimension for each parameter."""
    shape = [len(column) for column in over.values()]
    columns: dict[str, list[float]] = {
        "gain": [score.gain for score in scores],
        "gain_standard_error": [score.error for score in scores],
        "resolution_corrected": [summary.resolution_corrected_A for summary in summaries],
        "angle_from_input": [summary.angle_from_input_deg for summary in summaries],
        "at_rotation_extent": [summary.at_rotation_extent for summary in summaries],
        "at_shift_extent": [summary.at_shift_extent for summary in summaries],
    }
    data = {
        name: (tuple(over), np.reshape(columns[name], shape), {"long_name": long_name, "units": unit})
        for name, (long_name, unit) in SWEEP_VARIABLES.items()
    }
    order = np.argsort(np.argsort(-np.array(columns["gain"]), kind="stable"), kind="stable") + 1
    rank = (tuple(over), order.reshape(shape), {"long_name": "Rank, 1 is best", "units": "1"})
    best = [min(order[i] for i, other in enumerate(digests) if other == digest) for digest in digests]
    same = (tuple(over), np.reshape(best, shape), {"long_name": "Best rank with the same poses and maps", "units": "1"})
    coords = {
        name: (
            name,
            [AUTOMATIC if v is None else v for v in column],
            {"long_name": field.label, "units": field.unit or "1"},
        )
        for (name, column), field in zip(over.items(), map(fields.parameter_field, over), strict=True)
    }
    attributes = {"images": len(scores[0].rows), "iteration": summaries[0].iteration}
    return xr.Dataset({**data, "rank": rank, "same_step": same}, coords, attributes)


def ranking_table(ranking: xr.Dataset) -> str:
    """Return one line for each combination, best first, with the field names that `--set` takes."""
    lines = _format_ranking(
        ranking, lambda values: ", ".join(f"{name} {format_for_display(value)}" for name, value in values.items())
    )
    return "\n".join(f"{rank:4d}  {line}" for rank, line in enumerate(lines, 1))


def ranking_notes(ranking: xr.Dataset) -> list[str]:
    """Return a line for each parameter that had no effect: all its values gave the same poses and maps."""
    same = ranking["same_step"]
    idle = [name for name in same.dims if same.sizes[name] > 1 and bool((same == same.isel({name: 0})).all())]
    return [f"{name}: has no effect on this iteration, all values give the same poses and maps" for name in idle]


def ranking_lines(ranking: xr.Dataset) -> list[str]:
    """Return one line for each combination, best first: labels and values, gain and resolution."""
    return _format_ranking(ranking, fields.describe_settings)


def _format_ranking(ranking: xr.Dataset, describe: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """Return aligned lines, best first. describe: formats the settings of a row."""
    rows = ranking.to_dataframe().sort_values("rank").reset_index().to_dict("records")
    settings = [describe({str(name): row[name] for name in ranking["rank"].dims}) for row in rows]
    width = max(map(len, settings))
    return [f"{text:{width}s}  {_format_score(row)}" for text, row in zip(settings, rows, strict=True)]


def _format_score(row: Mapping[Any, Any]) -> str:
    """Format gain, standard error and resolution of a row."""
    same = f"  (the same as {row['same_step']})" if row["same_step"] != row["rank"] else ""
    return f"{row['gain']:+8.2f} ± {row['gain_standard_error']:.2f}  {row['resolution_corrected']:6.2f} Å{same}"
