"""Define the snapshots of a session: frozen, so that they may pass from thread to thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lrcore.records import IterationSummary, Step
from lrcore.refinement.job import Job
from lrcore.results.store import StepNode

Phase = Literal["idle", "running", "pausing", "paused", "stopping"]


@dataclass(frozen=True)
class RunState:
    """A session at one moment.

    Attributes
    ----------
    phase : what the worker does; pausing and stopping last until the next chunk of particles
    iteration, stage : the work in progress
    done, total : particles that this stage has processed, and all of them
    spent_s : time that they took in seconds, without pauses
    node : id of the present step, from which the next one continues; None before the start
    tree : every step of the run, in the order of writing
    summaries : history up to `node`
    message : the last event, for display
    error : why the last work failed; empty if it did not
    preview : step of the last preview, on a subset; not in the tree
    preview_job : job of the preview, with its subset of the particles
    resolutions_A : id of each step of the tree → its resolution in Å, corrected for the mask
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
    preview_job: Job | None = None
    resolutions_A: Mapping[str, float] = field(default_factory=dict)
