"""What a session shows: frozen snapshots, safe to hand from thread to thread."""

from dataclasses import dataclass
from typing import Literal

from lrcore.records import IterationSummary, Step
from lrcore.results.store import StepNode

Phase = Literal["idle", "running", "pausing", "paused", "stopping"]


@dataclass(frozen=True)
class RunState:
    """A session at one moment.

    phase: pausing and stopping last until the next chunk of particles. iteration, stage, done, total: the work at
    hand, particles done of all in this stage. spent_s: what they took, pauses not counted. node: id of the step that
    the next one grows from; None before the start. tree: every step of the run, in the order of writing. summaries:
    history up to `node`. message: what happened last, for a person. error: why the last work failed; empty when it
    did not. preview: step of the last preview, on a subset, which is in no tree.
    """

    phase: Phase = "idle"
    iteration: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0
    spent_s: float = 0.0
    node: str | None = None
    tree: tuple[StepNode, ...] = ()
    summaries: tuple[IterationSummary, ...] = ()
    message: str = ""
    error: str = ""
    preview: Step | None = None
