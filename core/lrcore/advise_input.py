"""Advice on what a run began with: its half sets, its half maps, and settings that throw resolution away."""

from collections.abc import Iterator

from lrcore.advice import Advice
from lrcore.audit import Audit, Fit
from lrcore.records import Step
from lrcore.spec import RefineSpec

SHARED = 0.15
"""Correlation of two half maps in the solvent from which on they share images: without, it is below 0.05."""
STILL = 0.1
"""The same of the first iteration's half maps, which are made of the half sets: they share particles."""
BETTER = 50.0
"""Log-likelihood by which a changed map has to be better, and, of another size, also this share of it:"""
SHARE = 0.07
OTHER_SIZE = 0.015
"""Difference of the size that counts: less is told by no local refinement."""
BLURRED = 1.5
"""An initial low-pass so many times coarser than where the half maps agree begins the search needlessly blind."""
CAPPED = 1.25
"""The same of a limit of the resolution of the poses, and the resolution reached."""


def of_input(first: Step, step: Step, spec: RefineSpec, seen: Audit | None) -> Iterator[Advice]:
    """first: the start of the run. seen: the audit of its input, if it was looked at."""
    if seen is not None:
        other = [*_of_fit(seen.fit)]
        yield from other
        if not any(one.name == "other_hand" for one in other):
            yield from _shared(seen)
    yield from _lowpass(first, spec)
    yield from _limit(step, spec)


def _of_fit(fit: Fit | None) -> Iterator[Advice]:
    if fit is None:
        return
    instead = "begin without half maps, which are then made of the particles"
    if fit.mirror_gain > BETTER:
        yield Advice(
            "other_hand",
            f"the half maps have the other hand: mirrored {fit.mirror} they fit the images better by "
            f"{fit.mirror_gain:,.0f} in log-likelihood",
            f"mirror half maps and mask, or {instead}",
            fit.mirror_gain,
            BETTER,
        )
    elif abs(fit.scale - 1) > OTHER_SIZE and fit.scale_gain > max(BETTER, SHARE * fit.given):
        yield Advice(
            "other_scale",
            f"the half maps are {100 * abs(fit.scale - 1):.0f} % too {'large' if fit.scale > 1 else 'small'} for the "
            f"images (log-likelihood {fit.scale_gain:,.0f} better at {fit.scale:.2f}): one of the pixel sizes is wrong",
            f"correct the pixel size of the maps by 1/{fit.scale:.2f} and resample them, or {instead}",
            abs(fit.scale - 1),
            OTHER_SIZE,
        )


def _shared(seen: Audit) -> Iterator[Advice]:
    """Of half sets, or of half maps alone."""
    if seen.shared < SHARED:
        return
    told = f"the half maps of the start agree in the solvent (correlation {seen.shared:.2f}, where nothing is)"
    if seen.later is not None and seen.later < STILL:
        yield Advice(
            "half_maps_share",
            f"{told}, but those of the first iteration do not ({seen.later:.2f}): they were not made of these half "
            "sets, and the first FSC is too good",
            "begin without half maps, which are then made of the particles; or give those of this split",
            seen.shared,
            SHARED,
        )
    else:
        yield Advice(
            "halves_share",
            f"{told}: the half sets share particles, so every FSC is too good",
            "look for particles that were picked twice (lrwidgets duplicates --distance), and split the half sets anew "
            "(--resplit)",
            seen.shared,
            SHARED,
        )


def _lowpass(first: Step, spec: RefineSpec) -> Iterator[Advice]:
    agreed = first.fsc["corrected"].resolution_A(0.5)
    if spec.initial_lowpass_A is not None and spec.initial_lowpass_A > BLURRED * (agreed + 1.0):
        yield Advice(
            "initial_lowpass",
            f"the first iteration sees the reference at {spec.initial_lowpass_A:g} Å, though the half maps agree to "
            f"{agreed:.1f} Å (FSC 0.5): poses that are good already are thrown away",
            "begin again with an automatic low-pass: initial_lowpass_A empty",
            spec.initial_lowpass_A / (agreed + 1.0),
            BLURRED,
            {"initial_lowpass_A": None},
            from_start=True,
        )


def _limit(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    reached, limit = step.history[-1].resolution_corrected_A, spec.max_align_resolution_A
    if limit is not None and limit > CAPPED * reached:
        yield Advice(
            "resolution_limit",
            f"poses are searched with information up to {limit:g} Å alone, though the half maps agree to "
            f"{reached:.1f} Å",
            "use what is there: max_align_resolution_A empty",
            limit / reached,
            CAPPED,
            {"max_align_resolution_A": None},
        )
