"""Run a session's work on its worker thread: starts, iterations and previews, one chunk of particles at a time."""

import contextlib
import logging
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Any

from psygnal import EmitLoopError, Signal, SignalInstance

from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.io.paths import make_parents
from lrcore.particles.subsets import draw_balanced_subset, select_step_particles
from lrcore.records import IterationSummary, Progress, Step, Volume
from lrcore.refinement.convergence import stop_reason
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_checks import mask_centre_A
from lrcore.refinement.parameter_effects import acts_from
from lrcore.refinement.parameters import RefineSpec, spec_differences
from lrcore.refinement.whole_maps import has_whole_maps
from lrcore.refinement.window_cache import WindowSelection
from lrcore.results.fingerprints import volume_fingerprint
from lrcore.results.store import StepNode
from lrcore.results.zarr_store import Store
from lrwidgets.session.engine import Events, map_kind
from lrwidgets.session.loading import Source
from lrwidgets.session.state import RunState
from lrwidgets.session.stored_steps import StoredSteps
from lrwidgets.session.worker import Worker
from lrwidgets.text.errors import error_message

log = logging.getLogger(__name__)

START_FIELDS = ("initial_lowpass_A", "symmetry", "ewald", "seed")
"""Fields that the start depends on: after a change of one, a run from the start makes a new start."""


class RunLoop(StoredSteps):
    """Base of `Session`: what its worker thread does. `Session.__init__` sets the attributes.

    Only the worker thread uses `_iterations_left`, `_past_convergence`, `_chunk_began` and `_steps`. The lock guards
    `_spec`, `_mask`, `_mask_centre_A`, `_state`, and `_rewinding_to`, the iterations of the rewinds that are queued.
    """

    state_changed = Signal(RunState)
    progress = Signal(Progress)
    step_done = Signal(StepNode, Step)
    whole_maps_done = Signal(StepNode, Step)
    spec_changed = Signal(RefineSpec)
    mask_changed = Signal(Volume)
    error = Signal(Exception)

    _source: Source | None
    _spec: RefineSpec
    _mask: Volume
    _mask_centre_A: tuple[float, float, float]
    _backend: Backend | None
    _lock: threading.Lock
    _worker: Worker
    _iterations_left: int | None
    _past_convergence: bool
    _rewinding_to: list[int]
    _chunk_began: float
    _steps: tuple[Step, Step] | None

    @property
    def job(self) -> Job:
        """The job with the spec and the mask of the next iteration."""
        with self._lock:
            return replace(self._job, spec=self._spec, mask=self._mask)

    # --- commands ---

    def _begin(self, n: int | None, past_convergence: bool, done: Future[None]) -> None:
        """Start the run or, if one is unfinished, continue it for `n` iterations (None: until it has converged)."""
        self._iterations_left, self._past_convergence = n, past_convergence
        self._publish(error="")
        if not self._worker.join_unfinished(done):
            self._worker.begin(self._iterations(), True, done)
        self._worker.resume()

    def _stop(self) -> None:
        """Discard unfinished work."""
        if self._worker.drop():
            self._publish(message="stopped")

    def _rewind(self, node: StepNode | None) -> None:
        """Discard unfinished work and make another step the present one."""
        self._worker.drop()
        self._steps = None
        kept = self._restore_first_iteration_fields(node) if node else ""
        message = f"at iteration {node.iteration}{kept}" if node else "before the start"
        self._publish(**self._position(node), message=message)
        with self._lock:
            self._rewinding_to.pop(0)

    def _restore_first_iteration_fields(self, node: StepNode) -> str:
        """Undo edits of fields that act on no iteration after this step; return which, as part of a message."""
        with self._lock:
            stale = node.iteration > 0 and {
                name: getattr(node.spec, name)
                for name in spec_differences(node.spec, self._spec)
                if acts_from(name) == "first iteration"
            }
            if not stale:
                return ""
            self._spec = spec = self._spec.model_copy(update=stale)
        self._emit(self.spec_changed, spec)
        names = ", ".join(f"{name} stays {'auto' if value is None else value}" for name, value in stale.items())
        return f"; {names}, as the first iteration had it"

    def _use_mask_of(self, node: StepNode) -> None:
        """Continue with the mask of a step."""
        mask = self.job_of(node).mask
        if mask is not self._mask:
            centre = mask_centre_A(mask)
            with self._lock:
                self._mask, self._mask_centre_A = mask, centre
            self._emit(self.mask_changed, mask)

    def _settle(self) -> None:
        """Publish the worker's phase; at rest, the state is that of the present step."""
        self._chunk_began = time.monotonic()
        changes: dict[str, Any] = {"phase": self._worker.phase}
        if self._worker.phase == "idle":
            node = self._require_store().node(self._state.node) if self._state.node else None
            changes |= {"iteration": node.iteration if node else 0, "stage": "", "done": 0, "total": 0}
        self._publish(**changes)

    def _fail(self, error: Exception) -> None:
        """Publish an error and emit it."""
        self._settle()
        self._publish(message="failed", error=error_message(error))
        self._emit(self.error, error)

    # --- the work ---

    def _iterations(self) -> Generator[None, None, None]:
        """Run a start if one is due, then iterations until done; yields after each chunk."""
        while self._start_is_due():
            self._steps = None
            self._publish(**self._position(None))
            job = self.job
            for event in self._engine.start(job, self._get_backend()):
                self._handle_event(event, job)
                yield
        stepped, ran = True, False
        while stepped and self._iterations_left != 0:
            job, once, stepped = self.job, self._past_convergence, False
            run = self._engine.run_iteration if once else self._engine.iterate
            for event in run(job, *self._current_steps(job), self._get_backend()):
                self._handle_event(event, job)
                if isinstance(event, Step):
                    stepped = ran = True
                    self._iterations_left = None if self._iterations_left is None else self._iterations_left - 1
                yield
                if isinstance(event, Step) and (
                    self._iterations_left == 0 or self._past_convergence != once or self._is_changed(job)
                ):
                    break
        if not stepped:
            self._publish(message=self._ending(ran))
        elif not self._past_convergence:
            yield from self._complete_maps()

    def _complete_maps(self) -> Generator[None, None, None]:
        """Make the whole half maps of the present step, if it has none, and store them beside it."""
        if self._state.node is None:
            raise InputError("no step yet: run one first")
        node = self._require_store().node(self._state.node)
        job = self.job_of(node)
        first, last = self._stored_steps()
        if has_whole_maps(last):
            return
        for event in self._engine.make_whole_maps(job, last, self._get_backend()):
            if isinstance(event, Progress):
                self._report(event)
                yield
                continue
            self._require_store().store_whole_maps(node.id, event)
            self._steps = (event if first is last else first, event)
            self._emit(self.whole_maps_done, node, event)
            yield

    def _ending(self, ran: bool) -> str:
        """Return the message of a run that ends before the number of iterations that was asked for, with the reason."""
        job = self.job
        _, last = self._current_steps(job)
        reason = stop_reason(job, last) or ("converged" if last.converged else "no iteration is due")
        if not ran:
            limit = "max_iterations" if reason.startswith("max_iterations") else "extra_final_passes"
            return f"nothing to run: {reason}; raise {limit}, change a setting or the mask, or run a single step"
        left = f"{self._iterations_left} of the requested iterations not run" if self._iterations_left else ""
        return "; ".join(part for part in (self._state.message, "" if last.converged else reason, left) if part)

    def _run_preview(self, n: int) -> Generator[None, None, None]:
        """Run one iteration of a subset, from the present step or from a start of its own."""
        self._publish(error="")
        rows = draw_balanced_subset(self._job.particles.half, n, self._spec.seed)
        job = replace(self.job, particles=self._job.particles.select(rows))
        if self._start_is_due():
            first = last = yield from self._run_to_step(self._engine.start(job, self._get_backend()))
        else:
            first, last = (select_step_particles(step, rows) for step in self._current_steps(job))
        backend = self._get_backend()
        aside = replace(backend, windows=backend.windows and WindowSelection(backend.windows, rows))
        step = yield from self._run_to_step(self._engine.run_iteration(job, first, last, aside))
        self._publish(preview=step, preview_job=job, message=f"previewed {len(rows)} particles")

    def _run_to_step(self, events: Events) -> Generator[None, None, Step]:
        """Report progress until the step comes, and return it."""
        for event in events:
            if isinstance(event, Step):
                return event
            self._report(event)
            yield
        raise RuntimeError("the engine ended without a step")

    def _start_is_due(self) -> bool:
        """Return whether there is no step yet, or only a start that the present spec or mask would make differently."""
        if self._state.node is None:
            return True
        node, job = self._require_store().node(self._state.node), self.job
        changed = any(getattr(node.spec, name) != getattr(job.spec, name) for name in START_FIELDS)
        return node.parent is None and (changed or node.mask != volume_fingerprint(job.mask)["digest"])

    def _is_changed(self, job: Job) -> bool:
        """Return whether spec or mask have been changed since this job was made."""
        return self._spec is not job.spec or self._mask is not job.mask

    def _current_steps(self, job: Job) -> tuple[Step, Step]:
        """Return the start of the present path, and the present step converted for this job's mask and map kind."""
        first, last = self._stored_steps()
        node = self._require_store().node(self._state.node)
        if map_kind(node.spec, node.mask) != map_kind(job.spec, volume_fingerprint(job.mask)["digest"]):
            last = self._engine.adopt_step(job, self.job_of(node), first, last, self._get_backend())
        return first, last

    def _stored_steps(self) -> tuple[Step, Step]:
        """Return the start of the present path, and the present step as it was made."""
        if self._steps is None:
            store = self._require_store()
            path = store.path_to(self._state.node)
            last = store.load(path[-1].id)
            self._steps = (store.load(path[0].id) if len(path) > 1 else last, last)
        return self._steps

    def _get_backend(self) -> Backend:
        """Return the backend of the run, made when it is first needed."""
        if self._backend is None:
            self._backend = self._make_backend()
        return self._backend

    def _handle_event(self, event: Progress | Step, job: Job) -> None:
        """Report progress; store a step and make it the present one."""
        if isinstance(event, Progress):
            self._report(event)
            return
        node = (
            self._create_store(event, job) if self._store is None else self._store.append(event, self._state.node, job)
        )
        self._steps = (self._steps[0] if self._steps else event, event)
        message = f"iteration {event.iteration} done" + (", converged" if event.converged else "")
        if event.history[-1].skipped:
            message += f"; {event.history[-1].skipped} particles skipped: invalid images"
        message += self._restore_first_iteration_fields(node)
        self._publish(**self._position(node, event.history), message=message)
        self._emit(self.step_done, node, event)

    def _create_store(self, start: Step, job: Job) -> StepNode:
        """Create the run on disk with its first step; on failure, leave nothing behind."""
        assert self._out is not None
        with make_parents(self._out):
            store = Store.create(self._out, self._job, asdict(self._source) if self._source else None)
            try:
                node = store.append(start, None, job)
            except BaseException:
                store.discard()
                raise
        self._store = store
        return node

    # --- reporting ---

    def _report(self, event: Progress) -> None:
        """Publish progress, with the time that the stage has taken so far."""
        before, now = self._state, time.monotonic()
        same = (before.iteration, before.stage) == (event.iteration, event.stage) and before.done < event.done
        spent = now - self._chunk_began + same * before.spent_s
        self._chunk_began = now
        self._publish(iteration=event.iteration, stage=event.stage, done=event.done, total=event.total, spent_s=spent)
        self._emit(self.progress, event)

    def _position(self, node: StepNode | None, history: tuple[IterationSummary, ...] | None = None) -> dict[str, Any]:
        """Return the fields of the state that say which step of the tree is the present one."""
        if history is None:
            history = self._store.history(node.id) if node and self._store else ()
        return {
            "node": node.id if node else None,
            "iteration": node.iteration if node else 0,
            "tree": self._store.tree() if self._store else (),
            "summaries": history,
            "stage": "",
            "done": 0,
            "total": 0,
            "resolutions_A": self._resolutions_A(node, history),
        }

    def _resolutions_A(self, node: StepNode | None, history: tuple[IterationSummary, ...]) -> dict[str, float]:
        """Return the resolution of every step of the tree: those known, and those of histories not read yet.

        history: up to `node`. A step whose history cannot be read has none.
        """
        store, known = self._store, dict(self._state.resolutions_A)
        for leaf in reversed(store.tree() if store else ()):
            if store is None or leaf.id in known:
                continue
            with contextlib.suppress(InputError):
                summaries = history if node and leaf.id == node.id else store.history(leaf.id)
                by_iteration = {one.iteration: one.resolution_corrected_A for one in summaries}
                known |= {
                    one.id: by_iteration[one.iteration]
                    for one in store.path_to(leaf.id)
                    if one.iteration in by_iteration
                }
        return known

    def _publish(self, **changes: Any) -> None:
        """Replace the state by one with these changes, and emit it."""
        with self._lock:
            # A pause or stop that was requested meanwhile stays announced until it takes effect.
            self._state = state = replace(self._state, **changes)
        self._emit(self.state_changed, state)

    def _emit(self, signal: SignalInstance, *values: Any) -> None:
        """Emit a signal; a listener that fails must not end the run."""
        try:
            signal.emit(*values)
        except EmitLoopError:
            log.exception("a listener of the session failed")
