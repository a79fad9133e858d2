"""Two steps side by side: what their maps and poses have in common, and in what their specs differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from lrcore.poses import changes
from lrcore.records import Step, Volume
from lrcore.refine import Job, final_map
from lrcore.results import fulcrum_of
from lrcore.spec import differences

Named = tuple[str, Job, Step]
"""A step by its name, with the job that it was run with."""


@dataclass(frozen=True)
class Comparison:
    """Two steps of the same particles.

    fsc: (step, shell), one variable per kind that both have; coordinate `frequency` in 1/Å. poses: (particle), the
    rotation in degrees and the shift in Å of the fulcrum that lead from the first pose to the second, and the half
    set. maps: (step, z, y, x), the half maps' mean filtered by its FSC, and the second step's mask. spec: fields that
    differ, name → both values. summary: one sentence.
    """

    names: tuple[str, str]
    fsc: xr.Dataset
    poses: xr.Dataset
    maps: xr.Dataset
    spec: dict[str, tuple[Any, Any]]
    summary: str

    def _repr_html_(self) -> str:
        return f"<p>{self.summary}</p>"


def compare(a: Named, b: Named) -> Comparison:
    """Compare step b with step a; shifts are those of the fulcrum of b."""
    names = (a[0], b[0])
    poses = _poses(a[2], b)
    spec = differences(a[1].spec, b[1].spec)
    return Comparison(names, _fsc(a, b), poses, _maps(a, b), spec, _summary(a[2], b[2], poses, spec))


def _variable(dims: tuple[str, ...], values: Any, long_name: str, units: str) -> xr.Variable:
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": units})


def _fsc(a: Named, b: Named) -> xr.Dataset:
    curves = [step.fsc for _, _, step in (a, b)]
    kinds = [kind for kind in curves[1] if kind in curves[0]]
    data: dict[str, Any] = {
        kind: _variable(("step", "shell"), [c[kind].value for c in curves], f"FSC, {kind}", "1") for kind in kinds
    }
    frequency = _variable(("shell",), curves[1][kinds[0]].frequency, "Spatial frequency", "1/angstrom")
    return xr.Dataset(data, {"step": [a[0], b[0]], "frequency": frequency})


def _poses(before: Step, b: Named) -> xr.Dataset:
    _, job, step = b
    angle, shift = changes(before.expectation.poses, step.expectation.poses, fulcrum_of(job, step))
    particles = job.particles
    return xr.Dataset(
        {
            "angle_difference": _variable(("particle",), angle, "Rotation angle from the first step", "degree"),
            "shift_difference": _variable(("particle",), shift, "Shift of the fulcrum from the first", "angstrom"),
        },
        {
            "uid": _variable(("particle",), particles.uid, "Unique identifier of the particle", "1"),
            "half": _variable(("particle",), particles.half, "Half set, 1 or 2", "1"),
        },
    )


def _maps(a: Named, b: Named) -> xr.Dataset:
    made: list[Volume] = [final_map(job, step) for _, job, step in (a, b)]
    box, apix = made[1].box, made[1].pixel_size_A
    at = (np.arange(box) - box // 2) * apix
    axes = {axis: _variable((axis,), at, f"Distance from the box centre along {axis}", "angstrom") for axis in "zyx"}
    both = np.stack([volume.data for volume in made])
    data = {
        "map": _variable(("step", "z", "y", "x"), both, "Map, filtered by its FSC", "1"),
        "mask": _variable(("z", "y", "x"), b[1].mask.data, "Mask of the second step", "1"),
    }
    return xr.Dataset(data, {"step": [a[0], b[0]], **axes})


def _summary(a: Step, b: Step, poses: xr.Dataset, spec: dict[str, tuple[Any, Any]]) -> str:
    before, after = a.history[-1], b.history[-1]
    angle, shift = (float(poses[name].median()) for name in ("angle_difference", "shift_difference"))
    changed = [f"{name} {_text(first)} → {_text(second)}" for name, (first, second) in spec.items()]
    return (
        f"iteration {a.iteration} → {b.iteration}: "
        f"{before.resolution_masked_A:.2f} → {after.resolution_masked_A:.2f} Å inside the mask "
        f"(corrected {before.resolution_corrected_A:.2f} → {after.resolution_corrected_A:.2f} Å); "
        f"poses differ by {angle:.2f}° and {shift:.2f} Å (median); "
        + (", ".join(changed) if changed else "the same parameters")
    )


def _text(value: Any) -> str:
    return "auto" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
