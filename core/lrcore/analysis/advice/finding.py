"""Define a finding: one problem of a run, the evidence for it and the change that may fix it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrcore.records import Volume


@dataclass(frozen=True)
class Finding:
    """One problem that was found in a step, and its remedy.

    Attributes
    ----------
    name : code of the finding, such as "mask_edge"; it is stored and never translated
    finding : what was measured, in one sentence
    remedy : what to change, in one sentence; empty if there is nothing to change
    evidence : measured value that the finding rests on
    limit : value of `evidence` from which the finding is reported
    changes : fields of the RefineSpec to set in a branch, name → value
    from_start : True if the branch must start at step 0, because the change affects the first iteration
    mask : mask to use in the branch, or None to keep the present one
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
        """Return True if a branch can apply the remedy."""
        return bool(self.changes) or self.mask is not None
