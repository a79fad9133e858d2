"""Drop findings that another finding already explains.

Either the same fault causes both, or the first makes the evidence for the second unreliable.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lrcore.analysis.advice.finding import Finding

PRIORS = {"rotation_prior_wide", "rotation_prior_tight", "shift_prior_wide", "shift_prior_tight", "prior_uneven"}
MOTION = frozenset(PRIORS | {"off_centre", "fulcrum_off"})
"""Names of findings that are derived from how far the poses have moved."""


@dataclass(frozen=True)
class Redundancy:
    """Rule that drops findings in the presence of others.

    Attributes
    ----------
    present : names of findings, any one of which activates the rule
    dropped : names of findings that are then dropped
    why : reason, in one sentence
    """

    present: frozenset[str]
    dropped: frozenset[str]
    why: str


REDUNDANCIES = (
    Redundancy(
        frozenset({"overfitting"}),
        MOTION | {"at_rotation_extent", "at_shift_extent"},
        "overfitted poses move up to the extents and do not show the motion of the body",
    ),
    Redundancy(frozenset({"other_hand", "other_scale"}), MOTION, "the poses were fitted to a wrong map"),
    Redundancy(
        frozenset({"unaligned"}), MOTION | {"overfitting"}, "particles without a pose are spread over the whole search"
    ),
    Redundancy(
        frozenset({"overfitting", "off_centre", "other_hand", "other_scale", "halves_share", "half_maps_share"}),
        frozenset({"mask_small", "mask_still"}),
        "the half maps agree outside the mask, or no longer inside, for this reason",
    ),
    Redundancy(
        frozenset({"drift_of_rotations", "drift_of_shifts"}),
        frozenset({"mask_still"}),
        "density that drifts is blurred everywhere",
    ),
    Redundancy(
        frozenset({"mask_still"}),
        MOTION,
        "static density in the mask makes the estimated motion smaller and moves its fulcrum",
    ),
)
"""Rules in order of application: a finding that one rule drops does not activate a later one."""


def drop_redundant(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that remain after all rules of `REDUNDANCIES`, in their order."""
    remaining = tuple(findings)
    for rule in REDUNDANCIES:
        if any(finding.name in rule.present for finding in remaining):
            remaining = tuple(finding for finding in remaining if finding.name not in rule.dropped)
    return remaining
