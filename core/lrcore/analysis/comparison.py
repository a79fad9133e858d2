"""Two steps side by side: what their maps and poses have in common, in what their specs differ, which is better."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from lrcore.analysis.held_out_likelihood import HeldOut
from lrcore.imaging.poses import pose_differences
from lrcore.records import Step, Volume
from lrcore.refinement.density import final_map
from lrcore.refinement.geometry import fulcrum_of
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import spec_differences

NamedStep = tuple[str, Job, Step]
"""A step by its name, with the job that it was run with."""


@dataclass(frozen=True)
class Comparison:
    """Two steps of the same particles.

    fsc: (step, shell), one variable per kind that both have; coordinate `frequency` in 1/Å. poses: (particle), the
    rotation in degrees and the shift in Å of the fulcrum that lead from the first pose to the second, and the half
    set. maps: (step, z, y, x), the half maps' mean filtered by its FSC, and the second step's mask. spec: fields that
    differ, name → both values. summary: one sentence. verdict: which predicts images better, and how sure that is, in a
    sentence. held_out: the scores behind it, `log_likelihood` (step, particle) with the coordinates uid and half;
    both empty where no images were looked at.
    """

    names: tuple[str, str]
    fsc: xr.Dataset
    poses: xr.Dataset
    maps: xr.Dataset
    spec: dict[str, tuple[Any, Any]]
    summary: str
    verdict: str = ""
    held_out: xr.Dataset | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """Summary and, where there is one, verdict."""
        return (self.summary, self.verdict) if self.verdict else (self.summary,)

    @property
    def summary_line(self) -> str:
        """The sentences in one line."""
        return "; ".join(self.sentences)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{text}</p>" for text in self.sentences)


def compare_steps(a: NamedStep, b: NamedStep, found: HeldOut | None = None) -> Comparison:
    """Compare step b with step a; shifts are those of the fulcrum of b. found: their held-out likelihoods."""
    names = (a[0], b[0])
    poses = _poses(a[2], b)
    spec = spec_differences(a[1].spec, b[1].spec)
    made = Comparison(names, _fsc(a, b), poses, _maps(a, b), spec, _summary(a[2], b[2], poses, spec))
    if found is None:
        return made
    return replace(made, verdict=verdict_sentence(names, found), held_out=_scores(names, b[1], found))


def verdict_sentence(names: tuple[str, str], found: HeldOut) -> str:
    """Which of two steps predicts held-out images better, and how sure that is."""
    told = (
        f"({found.gain:+.2f} ± {found.error:.2f} in the log-likelihood of an image, {len(found.rows)} images, p "
        f"{f'{found.p:.2g}' if found.p > 1e-12 else '< 1e-12'})"
    )
    short = [name[:9] for name in names]
    blind = "" if found.marginal else "; re-centred, so that the priors are not counted: the looser one gains by it"
    if found.better is None:
        return f"no difference between {short[0]} and {short[1]} that held-out images tell {told}{blind}"
    first, second = short[found.better], short[1 - found.better]
    return f"{first} is better than {second}: images that its maps have not seen are more probable {told}{blind}"


def _scores(names: tuple[str, str], job: Job, found: HeldOut) -> xr.Dataset:
    score = _variable(("step", "particle"), found.score, "Log-likelihood of a held-out image over no density", "1")
    uid, half = job.particles.uid[found.rows], found.half
    coords = {
        "step": list(names),
        "uid": _variable(("particle",), uid, "Unique identifier of the particle", "1"),
        "half": _variable(("particle",), half, "Half set, 1 or 2", "1"),
    }
    attrs = {"gain": found.gain, "gain_standard_error": found.error, "p": found.p, "priors_counted": found.marginal}
    return xr.Dataset({"log_likelihood": score}, coords, attrs)


def _variable(dims: tuple[str, ...], values: Any, long_name: str, units: str) -> xr.Variable:
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": units})


def _fsc(a: NamedStep, b: NamedStep) -> xr.Dataset:
    curves = [step.fsc for _, _, step in (a, b)]
    kinds = [kind for kind in curves[1] if kind in curves[0]]
    data: dict[str, Any] = {
        kind: _variable(("step", "shell"), [c[kind].value for c in curves], f"FSC, {kind}", "1") for kind in kinds
    }
    frequency = _variable(("shell",), curves[1][kinds[0]].frequency, "Spatial frequency", "1/angstrom")
    return xr.Dataset(data, {"step": [a[0], b[0]], "frequency": frequency})


def _poses(before: Step, b: NamedStep) -> xr.Dataset:
    _, job, step = b
    angle, shift = pose_differences(before.expectation.poses, step.expectation.poses, fulcrum_of(job, step))
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


def _maps(a: NamedStep, b: NamedStep) -> xr.Dataset:
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
