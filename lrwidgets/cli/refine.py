"""`lrwidgets refine`: start or resume a refinement, and print a line for each iteration."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrcore.compute.backend import compilation_notice
from lrcore.compute.workers import DaskWorkers, LocalWorkers, connect_scheduler
from lrcore.errors import InputError
from lrcore.particles.half_sets import filament_numbers
from lrcore.records import Progress
from lrcore.refinement.memory import PROGRAM_MB, estimate_memory
from lrcore.refinement.parameter_effects import fields_that_act, require_effect, unmet_need
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.zarr_store import is_empty_folder
from lrwidgets.cli.job_folder import fill_refinement_inputs
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import print_history
from lrwidgets.session.engine import LRCORE_ENGINE, Engine
from lrwidgets.session.session import Session
from lrwidgets.text.parameters import DEFAULT_SPEC, changes_from_text, changes_from_toml, edit_spec

MEMORY_NOTE_MB = 100.0
"""Estimated memory of start or iteration above which it is printed before the start."""
FREE_ON_RESUME = fields_that_act("end of the run")
"""Fields that say when to stop and change no step, so that they may differ in a resumed run."""


def refine(arguments: Namespace, engine: Engine = LRCORE_ENGINE) -> None:
    """Refine, print a line for each iteration and store each in the run."""
    changes = _spec_changes(arguments)
    printer = Printer(arguments.json)
    asked_to_resume = arguments.resume
    arguments.resume = arguments.resume and arguments.out.exists() and not is_empty_folder(arguments.out)
    fill_refinement_inputs(arguments, printer)
    with _workers(arguments) as workers, _session(arguments, changes, engine, workers) as session:
        if arguments.resume and not printer.as_json:
            print_history(printer, session.state.summaries)
        before = session.state
        began = "started" if before.node is None else f"resumed at iteration {before.iteration}"
        if asked_to_resume:
            _note_once(session, printer, f"{arguments.out}: {began}")
        session.progress.connect(printer.show_progress)
        session.step_done.connect(lambda node, step: printer.print_iteration(node.id, step.history[-1]))
        if arguments.resplit and (filament := filament_numbers(session.job.particles)) is not None:
            printer.note(f"new half sets: each of {filament.max() + 1} helical filaments is in one of them as a whole")
        memory = estimate_memory(session.job, workers=arguments.workers or 0)
        if max(memory.start_MB - PROGRAM_MB, memory.process_MB) > MEMORY_NOTE_MB:
            printer.note(memory.sentence())
        if notice := compilation_notice(arguments.backend):
            printer.note(notice)
        try:
            session.run(wait=True)
        except KeyboardInterrupt as stop:
            raise type(stop)(_interruption_message(session, arguments.out)) from None
        finally:
            printer.close()
        state = session.state
    first, last = state.summaries[0], state.summaries[-1]
    gain = f"{first.resolution_masked_A:.2f} → {last.resolution_masked_A:.2f} Å inside the mask"
    done = state.message or f"iteration {state.iteration}"
    if state.node == before.node:
        began = f"already finished at iteration {state.iteration}"
        done = f"{began}: {state.message}" if state.message else began
    elif asked_to_resume:
        done = f"{began}, {done}"
    line = f"{arguments.out}: {done}; {gain}"
    where = {"run": arguments.out, "node": state.node, "iteration": state.iteration}
    printer.report(line, "end", **where, began=began, message=state.message)


def _note_once(session: Session, printer: Printer, text: str) -> None:
    """Print a line for people when the work begins."""

    def note(_: Progress) -> None:
        session.progress.disconnect(note)
        printer.note(text)

    session.progress.connect(note)


@contextmanager
def _workers(arguments: Namespace) -> Iterator[Any]:
    """Yield the workers of --workers or --scheduler; None for this process alone."""
    a = arguments
    if a.workers and a.scheduler:
        raise InputError(
            "--workers and --scheduler: give one of them, processes on this machine or the workers of a scheduler"
        )
    if a.workers:
        with LocalWorkers(a.workers, a.backend, a.worker_threads) as workers:
            yield workers
    elif a.scheduler:
        with connect_scheduler(a.scheduler) as client:
            yield DaskWorkers(client, a.backend, a.worker_threads or 1)
    else:
        yield None


def _interruption_message(session: Session, out: Path) -> str:
    """Return what an interrupted run holds, and how to continue it."""
    if session.state.node is None:
        return f"interrupted before step 0 was complete: {out} was not written"
    return f"interrupted; {out} holds iterations 0 to {session.state.iteration}: continue it with --resume"


def _spec_changes(arguments: Namespace) -> dict[str, Any]:
    """Return the fields that are set by --spec, --set, --iterations and --seed; later ones take precedence."""
    changes = changes_from_toml(arguments.spec) if arguments.spec else {}
    changes |= changes_from_text(arguments.set)
    options = {"max_iterations": arguments.iterations, "seed": arguments.seed}
    return changes | {name: value for name, value in options.items() if value is not None}


def _cache(arguments: Namespace) -> dict[str, Any]:
    """Return where the windows of the images are kept, as `Session` takes it."""
    a = arguments
    if a.no_cache and (a.cache_memory is not None or a.scratch is not None):
        raise InputError("--no-cache: keeps no windows, so --cache-memory and --scratch have no effect: leave it out")
    return {"cache_memory_GB": 0.0 if a.no_cache else a.cache_memory, "scratch": a.scratch}


def _session(arguments: Namespace, changes: dict[str, Any], engine: Engine, workers: Any) -> Session:
    """Return a session on a new run or, with --resume, on the one that exists."""
    a, spec = arguments, edit_spec(DEFAULT_SPEC, changes)
    computing = {"backend": a.backend, "threads": a.threads, "workers": workers, "engine": engine, **_cache(a)}
    if not a.resume:
        if a.mask is None:
            raise InputError("--mask is missing: give the soft mask of the region to refine")
        named = {name: getattr(DEFAULT_SPEC, name) for name in changes_from_text(a.set) if unmet_need(name, spec)}
        require_effect(spec.model_copy(update=named), spec)  # of a file of parameters, the start warns
        maps = tuple(a.half_maps)
        inputs = {"images": a.images, "apix": a.apix, "subset": a.subset, "resplit": a.resplit}
        return Session.load(a.particles, a.mask, maps, spec=spec, out=a.out, **inputs, **computing)
    inputs = {"particles": a.particles, "mask": a.mask, "half_maps": tuple(a.half_maps) or None, "images": a.images}
    session = Session.open(a.out, **inputs, **computing)
    try:
        _check_resumed(session, arguments, changes, spec)
    except InputError:
        session.close()
        raise
    return session


def _check_resumed(session: Session, arguments: Namespace, changes: dict[str, Any], spec: RefineSpec) -> None:
    """Raise InputError for settings that differ from those of the run, and apply the ones that may differ."""
    source = session.source
    for name in ("subset", "apix"):
        given, stored = getattr(arguments, name), getattr(source, name) if source else None
        if given is not None and given != stored:
            raise InputError(
                f"--{name} {given}: the run {arguments.out} has {stored}: leave it out, or use another --out"
            )
    if arguments.resplit and (source is None or source.resplit is None):
        raise InputError(f"--resplit: the run {arguments.out} keeps the half sets of its file: use another --out")
    started = session.state.node is not None
    for name in changes:
        given, stored = getattr(spec, name), getattr(session.spec, name)
        if started and given != stored and name not in FREE_ON_RESUME:
            raise InputError(
                f"{name} = {given}: the run {arguments.out} has {stored}: leave it out, or use another --out"
            )
    session.edit(**{name: getattr(spec, name) for name in changes})
