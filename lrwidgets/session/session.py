"""Define Session, which a person, a script or a panel uses to run a refinement step by step."""

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from lrcore.html_repr import html_table
from lrcore.masks import validate_mask
from lrcore.records import Volume
from lrcore.refinement.density import images_are_subtracted
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_checks import mask_centre_A, parameter_warnings, require_valid_fulcrum
from lrcore.refinement.parameter_effects import require_effect
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.store import MemoryStore, StepStore
from lrcore.results.zarr_store import Store, require_new_run_path
from lrwidgets.session.engine import LRCORE_ENGINE, Engine, make_backend, make_window_cache
from lrwidgets.session.loading import PathLike, Source, load_job, resolve_inputs
from lrwidgets.session.run_loop import RunLoop
from lrwidgets.session.state import Phase, RunState
from lrwidgets.session.worker import Command, Worker
from lrwidgets.text.parameters import DEFAULT_SPEC, edit_spec

_OPEN_SESSIONS: "WeakValueDictionary[Path, Session]" = WeakValueDictionary()
"""The session that writes each run, so that a notebook that is closed and reopened finds its running session."""


class Session(RunLoop):
    """A refinement that is run step by step: input, parameters, run and branches.

    A worker thread does the work. Methods that start or change it return at once; with `wait=True` they return when
    it is done and raise the error if it failed. Pause, stop and rewind take effect between two chunks of particles; a
    changed parameter or mask takes effect with the next iteration. A session is a context manager that closes itself.
    Without `out` and `store`, the run is kept in memory.

    Parameters
    ----------
    job : particles, mask, spec and, if there are any, half maps
    out : path of the run folder (.zarr) to create with the first step
    store : an existing run to continue
    source : the files that the job was loaded from; recorded in the run so that it can be opened again
    backend : "auto" (the GPU if there is one), "cpu" or "cuda"
    threads : number of CPU threads; None for all
    workers
        An Executor, a `distributed.Client` or workers (`lrcore.LocalWorkers`, `lrcore.DaskWorkers`) that share the
        work on the images; the caller closes it.
    cache_memory_GB
        Memory for the windows of the images, which are cut once and used in every iteration; by default a third of
        what is free. 0 to keep none in memory.
    scratch : folder for windows that do not fit into memory; without it they are cut again in each iteration
    engine : the functions that compute; lrcore's by default

    Raises
    ------
    InputError
        If `out` exists or cannot be written.

    Attributes
    ----------
    state_changed : signal with the new RunState
    progress : signal with a Progress event after each chunk of particles
    step_done : signal with the StepNode and the Step of a finished start or iteration
    whole_maps_done : signal with the StepNode and the Step whose whole half maps were made
    spec_changed : signal with the new RefineSpec
    mask_changed : signal with the new mask
    error : signal with the exception of work that failed

    Notes
    -----
    Signals are emitted on the worker thread, and their values are frozen. A listener must not wait for the session.
    """

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
        cache_memory_GB: float | None = None,
        scratch: PathLike | None = None,
        engine: Engine = LRCORE_ENGINE,
    ) -> None:
        self._out = None if out is None else Path(out)
        if self._out is not None:
            require_new_run_path(self._out)
        self._job, self._source, self._engine = job, source, engine
        self._spec, self._mask = job.spec, job.mask
        if store is not None and store.head is not None:
            self._mask = store.mask(store.head.id) or job.mask
        self._mask_centre_A = mask_centre_A(self._mask)  # kept, because an edit must not wait for a pass over the mask
        self._store = store if store is not None or out is not None else MemoryStore(job)
        windows = make_window_cache(cache_memory_GB, scratch)
        self._make_backend = lambda: make_backend(engine, backend, threads, workers, windows)
        self._backend = None
        self._lock = threading.Lock()
        self._worker = Worker(self._settle, self._fail)
        self._iterations_left, self._past_convergence = None, False
        self._rewinding_to = []
        self._chunk_began = 0.0
        self._steps = None
        self._state = RunState()
        self._state = RunState(**self._position(store.head if store else None))
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
        cache_memory_GB: float | None = None,
        scratch: PathLike | None = None,
        engine: Engine = LRCORE_ENGINE,
    ) -> "Session":
        """Create a session from files.

        Parameters
        ----------
        particles
            File of the particles (.star, .cs or .csg), or a job folder of CryoSPARC or RELION; mask and half maps that
            are not given are taken from the folder.
        mask : file of the mask (.mrc)
        half_maps : two maps, or one volume group (.csg); if empty, they are reconstructed from the input poses
        spec : parameters of the refinement
        images : folder of the image stacks, if the paths in the particles' file do not lead to them
        apix : voxel size of mask and half maps in Å, which overrides their headers
        subset : use only so many particles, drawn with the spec's seed
        resplit : split the particles into new half sets, with the spec's seed; half maps cannot be given then
        out : path of the run folder (.zarr) to create; None to keep the run in memory
        backend : "auto", "cpu" or "cuda"
        threads : number of CPU threads; None for all
        workers, cache_memory_GB, scratch, engine : see `Session`

        Returns
        -------
        Session
            The session, before its start: nothing is computed yet.

        Raises
        ------
        InputError
            If an input cannot be read or does not fit the others, or if `out` exists.
        """
        if out is not None:
            require_new_run_path(Path(out))
        particles, mask, half_maps = resolve_inputs(particles, mask, half_maps, resplit)
        split_seed = spec.seed if resplit else None
        source = Source.from_paths(
            particles, mask, half_maps, images, apix=apix, subset=subset, subset_seed=spec.seed, resplit=split_seed
        )
        job = load_job(source, spec)
        return cls(
            job,
            out=out,
            source=source,
            backend=backend,
            threads=threads,
            workers=workers,
            cache_memory_GB=cache_memory_GB,
            scratch=scratch,
            engine=engine,
        )

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
        cache_memory_GB: float | None = None,
        scratch: PathLike | None = None,
        engine: Engine = LRCORE_ENGINE,
    ) -> "Session":
        """Open a run at its newest complete step, with the spec and the mask of that step.

        If a session of this process is writing the run, that session is returned.

        Parameters
        ----------
        run : the run folder (.zarr)
        write : False to read and export only, which is possible while another process continues the run
        particles : new path of the particles' file, if it has moved
        mask : new path of the mask, if it has moved
        half_maps : new paths of the half maps, if they have moved
        images : new folder of the image stacks, if they have moved
        backend, threads, workers, cache_memory_GB, scratch, engine : see `load`

        Returns
        -------
        Session
            The session, ready to continue the run.

        Raises
        ------
        InputError
            If the path is not a run, or an input is not the one that the run was started with.
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
        return cls(
            job,
            store=store,
            source=source,
            backend=backend,
            threads=threads,
            workers=workers,
            cache_memory_GB=cache_memory_GB,
            scratch=scratch,
            engine=engine,
        )

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session: {self.summary()}, {self._state.phase}>"

    def _repr_html_(self) -> str:
        job, state = self.job, self._state
        rows = {
            "particles": f"{len(job.particles):,} of {job.particles.box}² pixels, {job.particles.pixel_size_A:g} Å",
            "file": job.particles.path,
            "mask": job.mask.path or "created in this session",
            "run": self.run_path or "in memory only",
            "steps": f"{len(state.tree)}, at iteration {state.iteration}, {state.phase}",
        }
        if state.summaries:
            rows["resolution"] = f"{state.summaries[-1].resolution_corrected_A:.2f} Å, corrected for the mask"
        return html_table("Session", rows)

    def summary(self) -> str:
        """Return the number of particles, and the last iteration that is done with its resolution, in one line."""
        state = self._state
        done = state.summaries[-1].iteration if state.summaries else 0
        text = f"{len(self._job.particles):,} particles, iteration {done}"
        return text + (f", {state.summaries[-1].resolution_corrected_A:.2f} Å" if state.summaries else "")

    @property
    def run_path(self) -> Path | None:
        """Folder of the run, which may not have been created yet; None in memory."""
        return self._store.path if isinstance(self._store, Store) else self._out

    @property
    def state(self) -> RunState:
        """The newest snapshot of the session."""
        return self._state

    @property
    def spec(self) -> RefineSpec:
        """The spec of the next iteration."""
        return self._spec

    @property
    def source(self) -> Source | None:
        """The files that the job was loaded from; None for a job that was made in memory."""
        return self._source

    @property
    def mask(self) -> Volume:
        """The mask of the next iteration."""
        return self._mask

    def edit(self, **changes: Any) -> RefineSpec:
        """Change fields of the spec, from the next iteration on.

        Parameters
        ----------
        **changes : field of `RefineSpec` = new value

        Returns
        -------
        RefineSpec
            The new spec. A choice that has become unwise is reported as a warning.

        Raises
        ------
        InputError
            If a name or a value is invalid, or if the change would have no effect; the message names the field.
        """

        def checked(before: RefineSpec) -> RefineSpec:
            spec = edit_spec(before, changes)
            iteration = self._rewinding_to[-1] if self._rewinding_to else self._state.iteration
            require_effect(before, spec, iteration, self._images_are_subtracted(before, spec, self._state.node))
            return spec

        return self._use_spec(checked)

    def _use_spec(self, change: Callable[[RefineSpec], RefineSpec]) -> RefineSpec:
        """Use the spec that is returned for the present one from the next iteration on, and return it; see `edit`."""
        with self._lock:
            before, spec = self._spec, change(self._spec)
            if spec == before:
                return spec
            mask, centre, half = self._mask, self._mask_centre_A, self._job.particles.half
            require_valid_fulcrum(mask, spec, centre)
            self._spec = spec
        known = parameter_warnings(mask, before, centre, half)
        for warning in parameter_warnings(mask, spec, centre, half):
            if warning not in known:
                warnings.warn(warning, stacklevel=3)
        self._worker.submit(lambda: self._emit(self.spec_changed, spec))
        return spec

    def _images_are_subtracted(self, before: RefineSpec, after: RefineSpec, node: str | None) -> bool:
        """Return whether the images are subtracted, which only a change of subtract_outside needs to know.

        node: a step of the run in question; None before its start.
        """
        if before.subtract_outside == after.subtract_outside:
            return False
        first = None if node is None else self.load_step(self.path(node)[0].id)[1]
        return images_are_subtracted(self._job.particles, first)

    def use_mask(self, mask: Volume) -> None:
        """Refine with another mask, from the next iteration on.

        The run stores the mask with the steps that use it; existing steps keep theirs. If the present step is the
        start, which depends on the mask, a new start is made.

        Parameters
        ----------
        mask : values 0 to 1, with the box and the pixel size of the particles

        Raises
        ------
        InputError
            If the mask does not fit the particles, or the fulcrum does not fit the mask.
        """
        validate_mask(mask, self._job.particles.box, self._job.particles.pixel_size_A)
        centre = mask_centre_A(mask)
        with self._lock:
            require_valid_fulcrum(mask, self._spec, centre)
            self._mask, self._mask_centre_A = mask, centre
        self._worker.submit(lambda: self._emit(self.mask_changed, mask))

    def step(self, wait: bool = False) -> None:
        """Run one iteration, even past convergence; first the start, if there is none.

        Parameters
        ----------
        wait : return when it is done, and raise its error; Ctrl-C stops it at the next chunk of particles
        """
        self._start_run(1, True, wait)

    def run(self, n: int | None = None, wait: bool = False) -> str:
        """Iterate until convergence or `max_iterations`; a paused run is resumed.

        Both count from the last change of spec or mask.

        Parameters
        ----------
        n : number of iterations at most; None for no other limit
        wait
            Return when it is done, and raise its error; Ctrl-C stops the run at the next chunk of particles and keeps
            every complete step.

        Returns
        -------
        str
            With `wait` the last event, as `state.message`: why the run ended, or why there was nothing to run.
        """
        self._start_run(n, False, wait)
        return self._state.message if wait else ""

    def preview(self, n: int = 500, wait: bool = False) -> None:
        """Run one iteration of a subset with the present spec. Its step is `state.preview` and not part of the run.

        Parameters
        ----------
        n : number of particles
        wait : return when it is done, and raise its error
        """
        done: Future[None] = Future()
        self._request(lambda: self._worker.begin(self._run_preview(n), False, done), done, wait)

    def make_whole_maps(self, wait: bool = False) -> None:
        """Make the whole half maps of the present step by one pass of the whole images; nothing if it has them.

        Iterations work in the window about the mask, so that in between the maps are those of the start with the
        refined body in them. A run makes them at its end, an export when it needs them.

        Parameters
        ----------
        wait : return when it is done, and raise its error
        """
        done: Future[None] = Future()
        self._request(lambda: self._worker.begin(self._complete_maps(), False, done), done, wait)

    def pause(self) -> None:
        """Pause the run at the next chunk of particles; `resume`, `run` or `step` continues it."""
        self._set_phase("pausing", {"running"})
        self._worker.submit(self._worker.pause)

    def resume(self) -> None:
        """Continue a paused run."""
        self._worker.submit(self._worker.resume)

    def stop(self, wait: bool = False) -> None:
        """Stop at the next chunk of particles and discard the unfinished step; complete steps are kept.

        Parameters
        ----------
        wait : return when it has stopped
        """
        self._set_phase("stopping", {"running", "pausing", "paused"})
        self._do(self._stop, wait)

    def rewind(self, node: str | None, wait: bool = False) -> None:
        """Continue from another step, with the present spec and mask; an unfinished step is discarded.

        Parameters
        ----------
        node : id of the step; None for before the start
        wait : return when it is done

        Raises
        ------
        InputError
            If there is no such step.
        """
        target = None if node is None else self._require_store().node(node)
        with self._lock:
            self._rewinding_to.append(target.iteration if target else 0)
        self._do(lambda: self._rewind(target), wait)

    def branch(self, node: str | None, wait: bool = False, mask: Volume | None = None, **changes: Any) -> None:
        """Continue from another step with that step's spec and mask, or with changes to them.

        Parameters
        ----------
        node : id of the step; None for before the start
        wait : return when it is done
        mask : another mask; None for the step's own
        **changes : field of `RefineSpec` = new value

        Raises
        ------
        InputError
            If there is no such step, if a value or the mask is invalid, or if a change would have no effect.
        """
        target = None if node is None else self._require_store().node(node)
        before = target.spec if target else self._spec
        spec = edit_spec(before, changes)
        require_effect(before, spec, target.iteration if target else 0, self._images_are_subtracted(before, spec, node))
        self.rewind(node)
        if mask is not None:
            self.use_mask(mask)
        elif target is not None:
            self._worker.submit(lambda: self._use_mask_of(target))
        self._use_spec(lambda _: spec)
        self._do(lambda: None, wait)

    def close(self) -> None:
        """Discard unfinished work, end the worker thread and release the run."""
        self._worker.close()
        if self.run_path is not None and _OPEN_SESSIONS.get(self.run_path.absolute()) is self:
            del _OPEN_SESSIONS[self.run_path.absolute()]
        if self._store is not None:
            self._store.close()

    # --- requests to the worker, on any thread ---

    def _do(self, command: Callable[[], None], wait: bool) -> None:
        """Have the worker call a command."""
        done: Future[None] = Future()

        def act() -> None:
            try:
                command()
            except Exception as error:
                done.set_exception(error)
                raise
            done.set_result(None)

        self._request(act, done, wait)

    def _start_run(self, n: int | None, past_convergence: bool, wait: bool) -> None:
        """Have the worker run `n` iterations (None: to the end)."""
        done: Future[None] = Future()
        self._request(
            lambda: self._begin(n, past_convergence, done), done, wait, lambda: self._set_phase("running", {"idle"})
        )

    def _request(self, command: Command, done: Future[None], wait: bool, first: Command | None = None) -> None:
        """Queue a command; Ctrl-C while waiting for it stops the work."""
        self._worker.request(command, done, wait, lambda: self.stop(wait=True), first)

    def _set_phase(self, phase: Phase, present: set[Phase]) -> None:
        """Announce a phase at once, if the present one is among `present`."""
        with self._lock:
            if self._state.phase in present:
                self._state = replace(self._state, phase=phase)
