"""What a step says about its settings: findings, each with its evidence and, where a spec can mend it, the change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lrcore.converge import finished
from lrcore.masks import EDGE_PER_RESOLUTION, edge_width
from lrcore.records import Step, Summary, Volume
from lrcore.spec import RefineSpec

AT_EXTENT = 0.05
"""Share of particles at an extent above which it holds back more than outliers."""
WIDER = 1.5
"""By how much an extent or a prior is widened."""
DRIFT = 0.02
"""Re-centred poses drift when their median distance from the input grows by more than this share of an extent."""
SHARPEST = 0.5
"""Share of the width that the rule of the edge asks for, below which an edge rings."""
RESTLESS = 1.0
"""Median change of the poses in SD above which an iteration has moved them more than the data can tell."""
FINER = 0.01
"""Share of the resolution that counts as a gain."""


@dataclass(frozen=True)
class Advice:
    """One finding. evidence: the number it rests on; limit: where it begins to count; changes: fields of the spec."""

    name: str
    finding: str
    remedy: str
    evidence: float
    limit: float
    changes: Mapping[str, Any] = field(default_factory=dict)


def advise(step: Step, spec: RefineSpec, mask: Volume) -> tuple[Advice, ...]:
    """What is found in a step that was run with this spec and mask: at least one, which may be that all is well."""
    found = [*_extents(step, spec), *_drift(step, spec), *_edge(step, mask), *_unsettled(step, spec)]
    return tuple(found) or (_well(step),)


def _extents(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    now = step.history[-1]
    for what, share, limit, unit, names in (
        ("rotation", now.at_rotation_extent, spec.rotation_limit_deg, "°", ("rotation_extent_deg", 90.0)),
        ("shift", now.at_shift_extent, spec.shift_limit_A, " Å", ("shift_extent_A", 200.0)),
    ):
        if share > AT_EXTENT:
            changes = _wider(spec, *names)
            words = " and ".join(f"{name} {value:g}" for name, value in changes.items())
            yield Advice(
                f"at_{what}_extent",
                f"{100 * share:.0f} % of the particles stopped at the {what} extent of {limit:g}{unit}: "
                "the part moves further than the search, or its reference is not good enough yet",
                f"search further: {words}" if changes else "the extent is at its widest: look at mask and fulcrum",
                share,
                AT_EXTENT,
                changes,
            )


def _wider(spec: RefineSpec, extent: str, widest: float) -> dict[str, float]:
    """The prior where the extent follows it, else the extent, made wider; nothing where it cannot be."""
    prior = {"rotation_extent_deg": "rotation_prior_sd_deg", "shift_extent_A": "shift_prior_sd_A"}[extent]
    limit = {"rotation_extent_deg": spec.rotation_limit_deg, "shift_extent_A": spec.shift_limit_A}[extent]
    if limit >= widest:
        return {}
    if getattr(spec, extent) is None and spec.prior == "gaussian":
        return {prior: round(min(WIDER * getattr(spec, prior), widest), 3)}
    return {extent: round(min(WIDER * limit, widest), 3)}


def _drift(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    """Of re-centred poses, away from the input."""
    if len(step.history) < 3:
        return
    before, now = step.history[-2:]
    for what, on, here, there, limit, unit in (
        ("rotations", spec.recenter_rotations, now.angle_from_input_deg, before.angle_from_input_deg,
         spec.rotation_limit_deg, "°"),
        ("shifts", spec.recenter_shifts, now.shift_from_input_A, before.shift_from_input_A,
         spec.shift_limit_A, " Å"),
    ):  # fmt: skip
        share = (here - there) / limit if limit > 0 else 0.0
        if on and share > DRIFT:
            yield Advice(
                f"drift_of_{what}",
                f"re-centred {what} drift: {there:.2g} → {here:.2g}{unit} from the input (median), "
                "which no extent about the input holds",
                f"hold them to the input: recenter_{what} off",
                share,
                DRIFT,
                {f"recenter_{what}": False},
            )


def _edge(step: Step, mask: Volume) -> Iterator[Advice]:
    """Of a mask whose edge is much narrower than the rule asks for at this resolution."""
    resolution, apix = step.history[-1].resolution_masked_A, mask.pixel_size_A
    width, wanted = edge_width(mask.data), EDGE_PER_RESOLUTION * resolution / apix
    if width < SHARPEST * wanted:
        yield Advice(
            "mask_edge",
            f"the mask's soft edge is {width * apix:.0f} Å wide: sharp for {resolution:.2g} Å, it rings in the "
            "reference and lifts the FSC inside the mask",
            f"make the edge {wanted * apix:.0f} Å wide (5 × the resolution), and use that mask",
            width / wanted,
            SHARPEST,
        )


def _unsettled(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    """Of a run that has come to its last iteration without an end in sight, or moves without gain."""
    if step.converged or len(step.history) < 4:
        return
    before, now = step.history[-2:]
    gained = 1 - now.resolution_corrected_A / before.resolution_corrected_A
    if now.change_in_sd > RESTLESS and gained < FINER and _does_not_calm(step.history):
        narrower = round(spec.rotation_prior_sd_deg / WIDER, 3)
        held = spec.prior == "gaussian"
        yield Advice(
            "not_converging",
            f"the poses still move by {now.change_in_sd:.1f} of their SD (median), no less than before, and the "
            f"resolution gains nothing ({before.resolution_corrected_A:.2f} → {now.resolution_corrected_A:.2f} Å)",
            f"hold them tighter: rotation_prior_sd_deg {narrower:g}" if held else "hold them: prior gaussian",
            now.change_in_sd,
            RESTLESS,
            {"rotation_prior_sd_deg": narrower} if held else {"prior": "gaussian"},
        )
    elif finished(spec, step) and gained >= FINER:
        more = min(spec.max_iterations + 4, 200)
        yield Advice(
            "still_improving",
            f"the last iteration still gained {100 * gained:.0f} % in resolution, and it was the last one allowed",
            f"go on: max_iterations {more}",
            gained,
            FINER,
            {"max_iterations": more},
        )


def _does_not_calm(history: tuple[Summary, ...]) -> bool:
    return history[-1].change_in_sd >= history[-2].change_in_sd


def _well(step: Step) -> Advice:
    now = step.history[-1]
    share = max(now.at_rotation_extent, now.at_shift_extent)
    return Advice(
        "nothing",
        f"nothing is wrong that these checks see: {100 * share:.1f} % at an extent, edge of the mask and drift are in "
        "order",
        "",
        share,
        AT_EXTENT,
    )
