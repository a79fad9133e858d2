"""One finding about a run, and what a person can do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrcore.records import Volume


@dataclass(frozen=True)
class Finding:
    """One finding.

    evidence: the number it rests on; limit: where it begins to count. changes: fields of the spec to branch with, mask:
    a mask to go on with. from_start: the branch is one of the start, as the first iteration would be another.
    """

    name: str
    finding: str
    remedy: str
    evidence: float
    limit: float
    changes: Mapping[str, Any] = field(default_factory=dict)
    from_start: bool = False
    mask: Volume | None = None

    @property
    def has_fix(self) -> bool:
        """Whether it can be followed by a branch."""
        return bool(self.changes) or self.mask is not None
