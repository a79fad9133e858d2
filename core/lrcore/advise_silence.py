"""Which findings are no news beside others: the same fault makes them, or their evidence means something else then."""

from collections.abc import Iterable
from dataclasses import dataclass

from lrcore.advice import Advice

PRIORS = {"rotation_prior_wide", "rotation_prior_tight", "shift_prior_wide", "shift_prior_tight", "prior_uneven"}
MOTION = frozenset(PRIORS | {"off_centre", "fulcrum_off"})
"""Findings that rest on how far the poses have moved."""


@dataclass(frozen=True)
class Silence:
    """Beside one of `found`, none of `untold` is told. why: in a sentence."""

    found: frozenset[str]
    untold: frozenset[str]
    why: str


SILENCES = (
    Silence(
        frozenset({"overfitting"}),
        MOTION | {"at_rotation_extent", "at_shift_extent"},
        "poses that follow the noise go as far as they may, and tell no motion",
    ),
    Silence(frozenset({"other_hand", "other_scale"}), MOTION, "the poses were fitted to a wrong map"),
    Silence(
        frozenset({"overfitting", "off_centre", "other_hand", "other_scale", "halves_share", "half_maps_share"}),
        frozenset({"mask_small", "mask_still"}),
        "the half maps agree outside the mask, or no longer inside, for this reason",
    ),
    Silence(
        frozenset({"drift_of_rotations", "drift_of_shifts"}),
        frozenset({"mask_still"}),
        "density that drifts away is blurred wherever it is",
    ),
    Silence(frozenset({"mask_still"}), MOTION, "what stays in the mask makes the motion less, and about another point"),
)
"""In this order: what one leaves untold silences nothing after it."""


def news(found: Iterable[Advice]) -> tuple[Advice, ...]:
    """Those of the findings that are news beside each other, in their order."""
    left = tuple(found)
    for silence in SILENCES:
        if any(one.name in silence.found for one in left):
            left = tuple(one for one in left if one.name not in silence.untold)
    return left
