"""Session: the one mutable object. A worker thread owns the run; who calls only asks."""

import logging
import threading
import time
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack
from weakref import WeakValueDictionary

import xarray as xr
from psygnal import EmitLoopError, Signal, SignalInstance

from lrcore.analysis.comparison import Comparison, compare_steps
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.html_repr import html_table
from lrcore.masks import validate_mask
from lrcore.particles.subsets import draw_balanced_subset, select_step_particles
from lrcore.records import IterationSummary, Progress, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_checks import mask_centre_A, parameter_warnings, require_valid_fulcrum
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.fingerprints import volume_fingerprint
from lrcore.results.store import MemoryStore, StepNode, StepStore
from lrcore.results.zarr_store import Store, require_new_run_path
from lrwidgets.export import step_files
from lrwidgets.session.engine import LRCORE_ENGINE, Engine, Events, make_backend, map_kind
from lrwidgets.session.loading import PathLike, Source, load_job, resolve_inputs
from lrwidgets.session.pose_uncertainty import stored_or_computed
from lrwidgets.session.state import Phase, RunState
from lrwidgets.session.worker import Command, Worker
from lrwidgets.text.errors import error_message
from lrwidgets.text.parameters import DEFAULT_SPEC, edit_spec

log = logging.getLogger(__name__)

START_FIELDS = ("initial_lowpass_A", "symmetry", "ewald", "seed")
"""Fields that the start depends on: after a change of one, a run from the start makes a new start."""

_OPEN_SESSIONS: "WeakValueDictionary[Path, Session]" = WeakValueDictionary()
"""Who writes which run, so that a notebook that was closed and reopened finds the session it left at work."""


class Session:
    """A refinement as a person drives it: data, spec, run and branches.

    Methods that drive return at once, after asking the worker; with `wait=True` they return when it is done and
    raise what went wrong. Pause, stop, rewind and the like act between two chunks of particles. An edit and another
    mask take effect with the next iteration. Signals are emitted on the worker's thread and carry frozen snapshots.
    """

    state_changed = Signal(RunState)
    progress = Signal(Progress)
    step_done = Signal(StepNode, Step)
    spec_changed = Signal(RefineSpec)
    mask_changed = Signal(Volume)
    error = Signal(Exception)

    def __init__(
        self,
        job: Job,
        *,
        out: PathLike | None = None,
        store: StepStore | None = None,
        source: Source | None = None,
        backend: str = "auto",
        threads: int | None = None,
        workers: Any = None,
        engine: Engine = LRCORE_ENGINE,
    ) -> None:
        """A session on a job. out: where its run will be written; store: a run to go on with; neither: in memory.

        workers: an Executor, a `distributed.Client` or workers (`lrcore.LocalWorkers`, `lrcore.DaskWorkers`); the
        caller closes it. Raises InputError if `out` exists or cannot be written.
        """
        self._out = None if out is None else Path(out)
        if self._out is not None:
            require_new_run_path(self._out)
        self._job, self._source, self._engine = job, source, engine
        self._spec, self._mask = job.spec, job.mask
        if store is not None and store.head is not None:
            self._mask = store.mask(store.head.id) or job.mask
        self._middle_A = mask_centre_A(self._mask)  # here, for an edit must not take the time of a look at all voxels
        self._store = store if store is not None or out is not None else MemoryStore(job)
        self._pick: Callable[[], Backend] = lambda: make_backend(engine, backend, threads, workers)
        self._backend: Backend | None = None
        self._lock = threading.Lock()
        self._worker = Worker(self._settle, self._failed)
        # From here on, only the worker's.
        self._left: int | None = None
        self._once = False
        self._chunk_began = 0.0
        self._steps: tuple[Step, Step] | None = None
        self._state = RunState(**self._place(store.head if store else None))
        if self.run_path is not None and not (isinstance(store, Store) and store.read_only):
            _OPEN_SESSIONS[self.run_path.absolute()] = self

    @classmethod
    def load(
        cls,
        particles: PathLike,
        mask: PathLike | None = None,
        half_maps: PathLike | tuple[PathLike, ...] = (),
        *,
        spec: RefineSpec = DEFAULT_SPEC,
        images: PathLike | None = None,
        apix: float | None = None,
        subset: int | None = None,
        resplit: bool = False,
        out: PathLike | None = None,
        backend: str = "auto",
        threads: int | None = None,
        workers: Any = None,
        engine: Engine = LRCORE_ENGINE,
    ) -> "Session":
        """A session on files. half_maps: two maps or a volume .csg; none: made from the input poses.

        particles: also a job folder of CryoSPARC or RELION, which has what is not given of half maps and mask.
        images: folder of the stacks. apix: voxel size in Å of mask and maps, over their headers. subset: so many
        particles only, drawn by the spec's seed. resplit: into new half sets, by the spec's seed, without half maps.
        out: as in the constructor. Raises InputError for unusable input.
        """
        if out is not None:
            require_new_run_path(Path(out))
        particles, mask, half_maps = resolve_inputs(particles, mask, half_maps, resplit)
        anew = spec.seed if resplit else None
        source = Source.from_paths(
            particles, mask, half_maps, images, apix=apix, subset=subset, subset_seed=spec.seed, resplit=anew
        )
        job = load_job(source, spec)
        return cls(job, out=out, source=source, backend=backend, threads=threads, workers=workers, engine=engine)

    @classmethod
    def open(
        cls,
        run: PathLike,
        *,
        write: bool = True,
        particles: PathLike | None = None,
        mask: PathLike | None = None,
        half_maps: tuple[PathLike, ...] | None = None,
        images: PathLike | None = None,
        backend: str = "auto",
        threads: int | None = None,
        workers: Any = None,
        engine: Engine = LRCORE_ENGINE,
    ) -> "Session":
        """A session on a run, at its newest whole step, with that step's spec and mask; paths only for moved files.

        A run that a session of this process is at work on is not opened again: it is that session that comes back.
        write: False to look and export while another process goes on with it. Raises InputError if the path is no
        run, or an input is not what the run was begun with.
        """
        live = _OPEN_SESSIONS.get(Path(run).absolute())
        if live is not None and write:
            return live
        store = Store.open(run, write)
        try:
            source = Source.from_json(store.source)
            source = source.with_paths(particles=particles, mask=mask, half_maps=half_maps, images=images)
            job = load_job(source, store.head.spec if store.head else store.spec or DEFAULT_SPEC)
            store.check_inputs(job)
        except BaseException:
            store.close()
            raise
        return cls(job, store=store, source=source, backend=backend, threads=threads, workers=workers, engine=engine)

    def __enter__(self) -> "Session":
        return self

    def __repr__(self) -> str:
        return f"<Session: {self.summary()}, {self._state.phase}>"

    def _repr_html_(self) -> str:
        job, state = self.job, self._state
        rows = {
            "particles": f"{len(job.particles):,} of {job.particles.box}² pixels, {job.particles.pixel_size_A:g} Å",
            "file": job.particles.path,
            "mask": job.mask.path or "made here",
            "run": self.run_path or "in memory only",
            "steps": f"{len(state.tree)}, at iteration {state.iteration}, {state.phase}",
        }
        if state.summaries:
            rows["resolution"] = f"{state.summaries[-1].resolution_corrected_A:.2f} Å, corrected for the mask"
        return html_table("Session", rows)

    def summary(self) -> str:
        """Particles, step and resolution in one line."""
        state = self._state
        words = f"{len(self._job.particles):,} particles, iteration {state.iteration}"
        return words + (f", {state.summaries[-1].resolution_corrected_A:.2f} Å" if state.summaries else "")

    @property
    def run_path(self) -> Path | None:
        """Folder of the run, there or to be written; None in memory."""
        return self._store.path if isinstance(self._store, Store) else self._out

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> RunState:
        """The newest snapshot."""
        return self._state

    @property
    def spec(self) -> RefineSpec:
        """The spec of the next iteration."""
        return self._spec

    @property
    def source(self) -> Source | None:
        """How the job was loaded, if from files."""
        return self._source

    @property
    def mask(self) -> Volume:
        """The mask of the next iteration."""
        return self._mask

    @property
    def job(self) -> Job:
        """The job with the spec and the mask of the next iteration."""
        with self._lock:
            return replace(self._job, spec=self._spec, mask=self._mask)

    def edit(self, **changes: Any) -> RefineSpec:
        """Change fields of the spec, from the next iteration on; warns of what becomes unwise by it.

        Raises InputError naming a field that is refused.
        """
        with self._lock:
            before, spec = self._spec, edit_spec(self._spec, changes)
            if spec == before:
                return spec
            mask, middle, half = self._mask, self._middle_A, self._job.particles.half
            require_valid_fulcrum(mask, spec, middle)
            self._spec = spec
        known = parameter_warnings(mask, before, middle, half)
        for doubt in parameter_warnings(mask, spec, middle, half):
            if doubt not in known:
                warnings.warn(doubt, stacklevel=2)
        self._worker.submit(lambda: self._emit(self.spec_changed, spec))
        return spec

    def use_mask(self, mask: Volume) -> None:
        """Refine inside another mask from the next iteration on; the run keeps it with the steps that used it.

        Steps that are there stay as they are; from a start, which its mask has shaped, a new start is made. Raises
        InputError for a mask that does not fit the particles.
        """
        validate_mask(mask, self._job.particles.box, self._job.particles.pixel_size_A)
        middle_A = mask_centre_A(mask)
        with self._lock:
            require_valid_fulcrum(mask, self._spec, middle_A)
            self._mask, self._middle_A = mask, middle_A
        self._worker.submit(lambda: self._emit(self.mask_changed, mask))

    def step(self, wait: bool = False) -> None:
        """One iteration, even past convergence; before it the start, if there is none."""
        self._drive(1, True, wait)

    def run(self, n: int | None = None, wait: bool = False) -> None:
        """Iterate until converged or `max_iterations`, or `n` times at most; goes on with what is paused.

        With `wait`, Ctrl-C stops at the next chunk; every whole step is kept.
        """
        self._drive(n, False, wait)

    def preview(self, n: int = 500, wait: bool = False) -> None:
        """One iteration of `n` particles under the present spec, in no tree: `state.preview` is its step."""
        done: Future[None] = Future()
        self._request(lambda: self._worker.begin(self._run_preview(n), False, done), done, wait)

    def pause(self) -> None:
        """Halt at the next chunk; `resume`, `run` or `step` goes on from there."""
        self._mark("pausing", {"running"})
        self._worker.submit(self._worker.pause)

    def resume(self) -> None:
        """Go on with what is paused."""
        self._worker.submit(self._worker.resume)

    def stop(self, wait: bool = False) -> None:
        """End at the next chunk and drop the unfinished step; whole steps are kept."""
        self._mark("stopping", {"running", "pausing", "paused"})
        self._do(self._stop, wait)

    def rewind(self, node: str | None, wait: bool = False) -> None:
        """Go on from another step (None: before the start) with spec and mask as they are; drops an unfinished step.

        Raises InputError if there is no such step.
        """
        found = None if node is None else self._require_store().node(node)
        self._do(lambda: self._rewind(found), wait)

    def branch(self, node: str | None, wait: bool = False, mask: Volume | None = None, **changes: Any) -> None:
        """Rewind, and go on from there with that step's spec, changed, and its mask, or another.

        Raises InputError as `edit`, `rewind` and `use_mask` do.
        """
        found = None if node is None else self._require_store().node(node)
        spec = edit_spec(found.spec if found else self._spec, changes)
        self.rewind(node)
        if mask is not None:
            self.use_mask(mask)
        elif found is not None:
            self._worker.submit(lambda: self._use_mask_of(found))
        self.edit(**spec.model_dump())
        self._do(lambda: None, wait)

    def results(self, node: str | None = None) -> xr.DataTree:
        """Results by the schema (docs/results.md) along the path to a step, the present one by default."""
        return self._require_store().results(node or self._state.node)

    def path(self, node: str | None = None) -> tuple[StepNode, ...]:
        """The steps from the start to a node, the present one by default; empty before the start."""
        last = node or self._state.node
        return self._require_store().path_to(last) if last else ()

    def load_step(self, node: str | None = None) -> tuple[StepNode, Step]:
        """A step of the tree, the present one by default."""
        store = self._require_store()
        found = store.node(node or self._state.node)
        return found, store.load(found.id)

    def compare(self, a: str, b: str | None = None, images: int = 2000) -> Comparison:
        """Two steps side by side, the present one by default as the second: FSC, poses, maps, and which is better.

        images: so many are looked at for that; 0: none. Raises InputError if there is no such step.
        """
        steps = [self.load_step(node) for node in (a, b)]
        first, second = ((node.id, self.job_of(node), step) for node, step in steps)
        found = None
        if images:
            _, start = self.load_step(self._require_store().path_to(second[0])[0].id)
            try:
                found = self._engine.held_out(start, first[1:], second[1:], self._pick(), images)
            except InputError as error:
                warnings.warn(f"{error}; without images nothing tells which step is better", stacklevel=2)
        return compare_steps(first, second, found)

    def uncertainty(self, node: str | None = None, tell: Callable[[Progress], None] = lambda _: None) -> xr.Dataset:
        """How far the poses of a step (the present one by default) may be off: the group /uncertainty of the results.

        By draws under the other half set's map, which takes as long as a few iterations; a run that may be written
        keeps it. tell: is told how far it is. Raises InputError for a start.
        """
        found = self._require_store().node(node or self._state.node)
        return stored_or_computed(self._require_store(), found, self.job_of(found), self._pick(), tell)

    def job_of(self, node: StepNode) -> Job:
        """The job as a step of the tree was run with it."""
        return replace(self._job, spec=node.spec, mask=self._require_store().mask(node.id) or self._job.mask)

    def export(self, *, node: str | None = None, **targets: Unpack[step_files.ExportTargets]) -> list[Path]:
        """Write a step (the present one by default) for other programs: the paths written.

        star, cs: particles. maps: a folder for half1, half2, map, map_whole and mask. fsc_xml: EMDB's; fsc_star: as
        RELION's postprocess.star. chimerax: a folder for a scene. Raises InputError if something cannot be written.
        """
        found, step = self.load_step(node)

        def before() -> tuple[Step, ...]:
            ids = [node.id for node in self._require_store().path_to(found.id)[:-1]]
            return tuple(self.load_step(name)[1] for name in dict.fromkeys([*ids[:1], *ids[-1:]]))

        drawn = self._require_store().uncertainty(found.id)
        return step_files.write_step(targets, self.job_of(found), step, before, lambda: self.results(found.id), drawn)

    def close(self) -> None:
        """Drop unfinished work, end the worker and let go of the run."""
        self._worker.close()
        if self.run_path is not None and _OPEN_SESSIONS.get(self.run_path.absolute()) is self:
            del _OPEN_SESSIONS[self.run_path.absolute()]
        if self._store is not None:
            self._store.close()

    # --- asking, on any thread ---

    def _do(self, command: Callable[[], None], wait: bool) -> None:
        done: Future[None] = Future()

        def act() -> None:
            try:
                command()
            except Exception as error:
                done.set_exception(error)
                raise
            done.set_result(None)

        self._request(act, done, wait)

    def _drive(self, n: int | None, once: bool, wait: bool) -> None:
        done: Future[None] = Future()
        self._request(lambda: self._begin(n, once, done), done, wait, lambda: self._mark("running", {"idle"}))

    def _request(self, command: Command, done: Future[None], wait: bool, first: Command | None = None) -> None:
        self._worker.request(command, done, wait, lambda: self.stop(wait=True), first)

    def _mark(self, phase: Phase, of: set[Phase]) -> None:
        with self._lock:
            if self._state.phase in of:
                self._state = replace(self._state, phase=phase)

    def _require_store(self) -> StepStore:
        if self._store is None:
            raise InputError(f"{self._out}: has no step yet: run one first")
        return self._store

    # --- obeying, on the worker's thread ---

    def _begin(self, n: int | None, once: bool, done: Future[None]) -> None:
        """Start the run or, if one is unfinished, go on with it; `once`: whether it has converged or not."""
        self._left, self._once = n, once
        self._publish(error="")
        if not self._worker.join_unfinished(done):
            self._worker.begin(self._iterations(), True, done)
        self._worker.resume()

    def _stop(self) -> None:
        if self._worker.drop():
            self._publish(message="stopped")

    def _rewind(self, node: StepNode | None) -> None:
        self._worker.drop()
        self._steps = None
        self._publish(**self._place(node), message=f"at iteration {node.iteration}" if node else "before the start")

    def _use_mask_of(self, node: StepNode) -> None:
        """Go on inside the mask of a step."""
        mask = self.job_of(node).mask
        if mask is not self._mask:
            middle_A = mask_centre_A(mask)
            with self._lock:
                self._mask, self._middle_A = mask, middle_A
            self._emit(self.mask_changed, mask)

    def _settle(self) -> None:
        """Say what phase we are in; at rest, the state is that of the present step."""
        self._chunk_began = time.monotonic()
        changes: dict[str, Any] = {"phase": self._worker.phase}
        if self._worker.phase == "idle":
            node = self._require_store().node(self._state.node) if self._state.node else None
            changes |= {"iteration": node.iteration if node else 0, "stage": "", "done": 0, "total": 0}
        self._publish(**changes)

    def _failed(self, error: Exception) -> None:
        self._settle()
        self._publish(message="failed", error=error_message(error))
        self._emit(self.error, error)

    # --- the work ---

    def _iterations(self) -> Generator[None, None, None]:
        """The run: a start if one is due, then iterations until done; one chunk between two yields."""
        while self._start_is_due():
            self._steps = None
            self._publish(**self._place(None))
            job = self.job
            for event in self._engine.start(job, self._computer()):
                self._handle_event(event, job)
                yield
        stepped = True
        while stepped and self._left != 0:
            job, once, stepped = self.job, self._once, False
            engine = self._engine.advance if once else self._engine.iterate
            for event in engine(job, *self._current_steps(job), self._computer()):
                self._handle_event(event, job)
                if isinstance(event, Step):
                    stepped = True
                    self._left = None if self._left is None else self._left - 1
                yield
                if isinstance(event, Step) and (self._left == 0 or self._once != once or self._is_changed(job)):
                    break

    def _run_preview(self, n: int) -> Generator[None, None, None]:
        """One iteration of a subset: from the present step, or from a start of its own."""
        self._publish(error="")
        rows = draw_balanced_subset(self._job.particles.half, n, self._spec.seed)
        job = replace(self.job, particles=self._job.particles.select(rows))
        if self._start_is_due():
            first = last = yield from self._only_step(self._engine.start(job, self._computer()))
        else:
            first, last = (select_step_particles(step, rows) for step in self._current_steps(job))
        step = yield from self._only_step(self._engine.advance(job, first, last, self._computer()))
        self._publish(preview=step, message=f"previewed {len(rows)} particles")

    def _only_step(self, events: Events) -> Generator[None, None, Step]:
        for event in events:
            if isinstance(event, Step):
                return event
            self._report(event)
            yield
        raise RuntimeError("the engine ended without a step")

    def _start_is_due(self) -> bool:
        """Nothing to grow from, or only a start that the spec in force would have made otherwise."""
        if self._state.node is None:
            return True
        node, job = self._require_store().node(self._state.node), self.job
        changed = any(getattr(node.spec, name) != getattr(job.spec, name) for name in START_FIELDS)
        return node.parent is None and (changed or node.mask != volume_fingerprint(job.mask)["digest"])

    def _is_changed(self, job: Job) -> bool:
        """Whether spec or mask are others by now."""
        return self._spec is not job.spec or self._mask is not job.mask

    def _current_steps(self, job: Job) -> tuple[Step, Step]:
        """The start of the present path, and the step to grow from, as the job takes it up."""
        store = self._require_store()
        if self._steps is None:
            path = store.path_to(self._state.node)
            last = store.load(path[-1].id)
            self._steps = (store.load(path[0].id) if len(path) > 1 else last, last)
        first, last = self._steps
        node = store.node(self._state.node)
        if map_kind(node.spec, node.mask) != map_kind(job.spec, volume_fingerprint(job.mask)["digest"]):
            last = self._engine.adopt_step(job, self.job_of(node), first, last, self._computer())
        return first, last

    def _computer(self) -> Backend:
        if self._backend is None:
            self._backend = self._pick()
        return self._backend

    def _handle_event(self, event: Progress | Step, job: Job) -> None:
        """Report progress; keep a step and make it the present one."""
        if isinstance(event, Progress):
            self._report(event)
            return
        node = (
            self._create_store(event, job) if self._store is None else self._store.append(event, self._state.node, job)
        )
        self._steps = (self._steps[0] if self._steps else event, event)
        message = f"iteration {event.iteration} done" + (", converged" if event.converged else "")
        if event.history[-1].skipped:
            message += f"; {event.history[-1].skipped} particles are skipped: their images are none"
        self._publish(**self._place(node, event.history), message=message)
        self._emit(self.step_done, node, event)

    def _create_store(self, start: Step, job: Job) -> StepNode:
        """Make the run on disk with its first step, or nothing."""
        assert self._out is not None
        store = Store.create(self._out, self._job, asdict(self._source) if self._source else None)
        try:
            node = store.append(start, None, job)
        except BaseException:
            store.discard()
            raise
        self._store = store
        return node

    def _report(self, event: Progress) -> None:
        before, now = self._state, time.monotonic()
        same = (before.iteration, before.stage) == (event.iteration, event.stage) and before.done < event.done
        spent = now - self._chunk_began + same * before.spent_s
        self._chunk_began = now
        self._publish(iteration=event.iteration, stage=event.stage, done=event.done, total=event.total, spent_s=spent)
        self._emit(self.progress, event)

    def _place(self, node: StepNode | None, history: tuple[IterationSummary, ...] | None = None) -> dict[str, Any]:
        """The part of the state that says where in the tree we are."""
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
        }

    def _publish(self, **changes: Any) -> None:
        with self._lock:
            # A pause or stop that was asked for meanwhile stays announced until it is obeyed.
            self._state = state = replace(self._state, **changes)
        self._emit(self.state_changed, state)

    def _emit(self, signal: SignalInstance, *values: Any) -> None:
        """Tell the listeners; one that fails must not end the run."""
        try:
            signal.emit(*values)
        except EmitLoopError:
            log.exception("a listener of the session failed")
