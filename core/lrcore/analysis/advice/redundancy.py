"""Which findings are no news beside others: the same fault makes them, or their evidence means something else then."""

from collections.abc import Iterable
from dataclasses import dataclass

from lrcore.analysis.advice.finding import Finding

PRIORS = {"rotation_prior_wide", "rotation_prior_tight", "shift_prior_wide", "shift_prior_tight", "prior_uneven"}
MOTION = frozenset(PRIORS | {"off_centre", "fulcrum_off"})
"""Findings that rest on how far the poses have moved."""


@dataclass(frozen=True)
class Redundancy:
    """Beside one of `found`, none of `untold` is told. why: in a sentence."""

    present: frozenset[str]
    dropped: frozenset[str]
    why: str


REDUNDANCIES = (
    Redundancy(
        frozenset({"overfitting"}),
        MOTION | {"at_rotation_extent", "at_shift_extent"},
        "poses that follow the noise go as far as they may, and tell no motion",
    ),
    Redundancy(frozenset({"other_hand", "other_scale"}), MOTION, "the poses were fitted to a wrong map"),
    Redundancy(
        frozenset({"overfitting", "off_centre", "other_hand", "other_scale", "halves_share", "half_maps_share"}),
        frozenset({"mask_small", "mask_still"}),
        "the half maps agree outside the mask, or no longer inside, for this reason",
    ),
    Redundancy(
        frozenset({"drift_of_rotations", "drift_of_shifts"}),
        frozenset({"mask_still"}),
        "density that drifts away is blurred wherever it is",
    ),
    Redundancy(
        frozenset({"mask_still"}), MOTION, "what stays in the mask makes the motion less, and about another point"
    ),
)
"""In this order: what one leaves untold silences nothing after it."""


def drop_redundant(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those of the findings that are news beside each other, in their order."""
    left = tuple(found)
    for silence in REDUNDANCIES:
        if any(one.name in silence.present for one in left):
            left = tuple(one for one in left if one.name not in silence.dropped)
    return left
