"""Compare two steps: their FSC curves, poses, maps and parameters, and which predicts held-out images better."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from lrcore.analysis.held_out_likelihood import HeldOut
from lrcore.imaging.poses import pose_differences
from lrcore.records import Step, Volume
from lrcore.refinement.density import final_map
from lrcore.refinement.geometry import step_fulcrum_A
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import spec_differences

NamedStep = tuple[str, Job, Step]
"""Name of a step, the job that it was run with, and the step."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of two steps of the same particles.

    Attributes
    ----------
    names : names of the two steps
    fsc : (step, shell), one variable per kind of curve that both steps have; coordinate `frequency` in 1/Å
    poses : (particle), rotation in degrees and shift of the fulcrum in Å from the first pose to the second; half set
    maps : (step, z, y, x), mean of the half maps filtered by its FSC; (z, y, x), mask of the second step
    spec : parameters that differ, name → (first value, second value)
    summary : resolutions, pose differences and changed parameters, in one sentence
    verdict : which step predicts held-out images better, and how significant that is; "" without held-out images
    held_out : scores behind the verdict, `log_likelihood` (step, particle) with the coordinates uid and half; or None
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
        """Return the summary and, if there is one, the verdict."""
        return (self.summary, self.verdict) if self.verdict else (self.summary,)

    @property
    def summary_line(self) -> str:
        """Return the sentences in one line."""
        return "; ".join(self.sentences)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{text}</p>" for text in self.sentences)


def compare_steps(a: NamedStep, b: NamedStep, held_out: HeldOut | None = None) -> Comparison:
    """Compare step b with step a of the same particles.

    Parameters
    ----------
    a : first step
    b : second step; shifts are those of its fulcrum, and its mask is shown
    held_out : held-out likelihoods of the two steps; None for a comparison without a verdict

    Returns
    -------
    Comparison
        Differences of FSC, poses, maps and parameters, with a summary.
    """
    names = (a[0], b[0])
    poses = _poses(a[2], b)
    spec = spec_differences(a[1].spec, b[1].spec)
    comparison = Comparison(names, _fsc(a, b), poses, _maps(a, b), spec, _summary(a[2], b[2], poses, spec))
    if held_out is None:
        return comparison
    return replace(comparison, verdict=verdict_sentence(names, held_out), held_out=_scores(names, b[1], held_out))


def verdict_sentence(names: tuple[str, str], held_out: HeldOut) -> str:
    """Return a sentence on which of two named steps predicts held-out images better, with the evidence in brackets."""
    evidence = (
        f"(log-likelihood {held_out.gain:+.2f} ± {held_out.error:.2f} per image, {len(held_out.rows)} images, p "
        f"{f'{held_out.p:.2g}' if held_out.p > 1e-12 else '< 1e-12'})"
    )
    short = [name[:9] for name in names]
    caveat = "" if held_out.priors_counted else "; re-centred, so priors are not counted, which favours wider priors"
    if held_out.better is None:
        return f"no difference between {short[0]} and {short[1]} by held-out images {evidence}{caveat}"
    first, second = short[held_out.better], short[1 - held_out.better]
    return f"{first} is better than {second}: it predicts held-out images better {evidence}{caveat}"


def _scores(names: tuple[str, str], job: Job, held_out: HeldOut) -> xr.Dataset:
    """Return the held-out scores as a data set."""
    score = _variable(
        ("step", "particle"), held_out.score, "Log-likelihood of a held-out image, relative to no density", "1"
    )
    uid, half = job.particles.uid[held_out.rows], held_out.half
    coords = {
        "step": list(names),
        "uid": _variable(("particle",), uid, "Unique identifier of the particle", "1"),
        "half": _variable(("particle",), half, "Half set, 1 or 2", "1"),
    }
    attrs = {
        "gain": held_out.gain,
        "gain_standard_error": held_out.error,
        "p": held_out.p,
        "priors_counted": held_out.priors_counted,
    }
    return xr.Dataset({"log_likelihood": score}, coords, attrs)


def _variable(dims: tuple[str, ...], values: Any, long_name: str, units: str) -> xr.Variable:
    """Return a variable with its attributes."""
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": units})


def _fsc(a: NamedStep, b: NamedStep) -> xr.Dataset:
    """Return the FSC curves that both steps have."""
    curves = [step.fsc for _, _, step in (a, b)]
    kinds = [kind for kind in curves[1] if kind in curves[0]]
    data: dict[str, Any] = {
        kind: _variable(("step", "shell"), [c[kind].value for c in curves], f"FSC, {kind}", "1") for kind in kinds
    }
    frequency = _variable(("shell",), curves[1][kinds[0]].frequency, "Spatial frequency", "1/angstrom")
    return xr.Dataset(data, {"step": [a[0], b[0]], "frequency": frequency})


def _poses(before: Step, b: NamedStep) -> xr.Dataset:
    """Return how far each pose of step b is from that of step `before`."""
    _, job, step = b
    angle, shift = pose_differences(before.expectation.poses, step.expectation.poses, step_fulcrum_A(job, step))
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
    """Return the filtered maps of both steps and the mask of the second, on its grid in Å about the box centre."""
    volumes: list[Volume] = [final_map(job, step) for _, job, step in (a, b)]
    box, apix = volumes[1].box, volumes[1].pixel_size_A
    at = (np.arange(box) - box // 2) * apix
    axes = {axis: _variable((axis,), at, f"Distance from the box centre along {axis}", "angstrom") for axis in "zyx"}
    both = np.stack([volume.data for volume in volumes])
    data = {
        "map": _variable(("step", "z", "y", "x"), both, "Map, filtered by its FSC", "1"),
        "mask": _variable(("z", "y", "x"), b[1].mask.data, "Mask of the second step", "1"),
    }
    return xr.Dataset(data, {"step": [a[0], b[0]], **axes})


def _summary(a: Step, b: Step, poses: xr.Dataset, spec: dict[str, tuple[Any, Any]]) -> str:
    """Return the summary sentence."""
    before, after = a.history[-1], b.history[-1]
    angle, shift = (float(poses[name].median()) for name in ("angle_difference", "shift_difference"))
    changed = [f"{name} {_format_value(first)} → {_format_value(second)}" for name, (first, second) in spec.items()]
    return (
        f"iteration {a.iteration} → {b.iteration}: "
        f"{before.resolution_masked_A:.2f} → {after.resolution_masked_A:.2f} Å inside the mask "
        f"(corrected {before.resolution_corrected_A:.2f} → {after.resolution_corrected_A:.2f} Å); "
        f"poses differ by {angle:.2f}° and {shift:.2f} Å (median); "
        + (", ".join(changed) if changed else "the same parameters")
    )


def _format_value(value: Any) -> str:
    """Return a parameter's value as text."""
    return "auto" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
