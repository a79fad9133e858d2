"""The commands that drive a run: a Session without a view."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrcore.errors import InputError
from lrcore.execute import DaskCrew, LocalCrew, connected
from lrcore.memory import demand
from lrcore.records import Summary
from lrcore.spec import RefineSpec
from lrcore.store import Node, Store
from lrwidgets.engine import CORE, Engine
from lrwidgets.export import KINDS
from lrwidgets.finding import resolve
from lrwidgets.params import DEFAULTS, edited, from_text, from_toml
from lrwidgets.session import Session
from lrwidgets.table import Printer, text

if TYPE_CHECKING:
    from lrcore.locres import LocalResolution

SAID_MB = 100.0
"""Memory that an iteration takes is told of before it begins if it is more than this."""
FREE_ON_RESUME = ("max_iterations", "extra_final_passes")
"""Fields that say how long to go on and change no step, so a resumed run may be given other ones."""


def demo(arguments: Namespace) -> None:
    """Simulate, refine, judge by the truth."""
    from lrwidgets.demo import run

    run(arguments.out, Printer(arguments.json), backend=arguments.backend, threads=arguments.threads)


def refine(arguments: Namespace, engine: Engine = CORE) -> None:
    """Refine, print a line for each iteration and keep each in the run."""
    changes = _changes(arguments)
    printer = Printer(arguments.json)
    resolve(arguments, printer)
    with _crew(arguments) as crew, _session(arguments, changes, engine, crew) as session:
        if arguments.resume and not printer.as_json:
            _print_history(printer, session.state.summaries)
        session.progress.connect(printer.progress)
        session.step_done.connect(lambda node, step: printer.iteration(node.id, step.history[-1]))
        memory = demand(session.job, workers=arguments.workers or 0)
        if memory.here_MB > SAID_MB:
            printer.note(memory.sentence())
        try:
            session.run(wait=True)
        except KeyboardInterrupt as stop:
            raise type(stop)(_interrupted(session, arguments.out)) from None
        finally:
            printer.close()
        state = session.state
    first, last = state.summaries[0], state.summaries[-1]
    gain = f"{first.resolution_masked_A:.2f} → {last.resolution_masked_A:.2f} Å inside the mask"
    line = f"{arguments.out}: {state.message or f'iteration {state.iteration}'}; {gain}"
    printer.tell(line, "end", run=arguments.out, node=state.node, iteration=state.iteration)


@contextmanager
def _crew(arguments: Namespace) -> Iterator[Any]:
    """Who goes over the images in place of this process; None for itself."""
    a = arguments
    if a.workers and a.scheduler:
        raise InputError("--workers and --scheduler: give one of them: processes here, or the workers of a scheduler")
    if a.workers:
        with LocalCrew(a.workers, a.backend, a.worker_threads) as crew:
            yield crew
    elif a.scheduler:
        with connected(a.scheduler) as client:
            yield DaskCrew(client, a.backend, a.worker_threads or 1)
    else:
        yield None


def _interrupted(session: Session, out: Path) -> str:
    if session.state.node is None:
        return f"interrupted before the start was whole: there is no {out}"
    return f"interrupted; {out} holds iterations 0 to {session.state.iteration}: go on with it by --resume"


def _changes(arguments: Namespace) -> dict[str, Any]:
    """The fields that the person has set: --spec, then --set, then the options of their own."""
    changes = from_toml(arguments.spec) if arguments.spec else {}
    changes |= from_text(arguments.set)
    options = {"max_iterations": arguments.iterations, "seed": arguments.seed}
    return changes | {name: value for name, value in options.items() if value is not None}


def _session(arguments: Namespace, changes: dict[str, Any], engine: Engine, crew: Any) -> Session:
    a, spec = arguments, edited(DEFAULTS, changes)
    computing = {"backend": a.backend, "threads": a.threads, "workers": crew, "engine": engine}
    if not a.resume:
        if a.mask is None:
            raise InputError("--mask is missing: give the soft mask of the region to refine")
        maps = tuple(a.half_maps)
        inputs = {"images": a.images, "apix": a.apix, "subset": a.subset, "resplit": a.resplit}
        return Session.load(a.particles, a.mask, maps, spec=spec, out=a.out, **inputs, **computing)
    if not a.out.exists():
        raise InputError(f"{a.out}: there is no such run: leave out --resume to begin it")
    inputs = {"particles": a.particles, "mask": a.mask, "half_maps": tuple(a.half_maps) or None, "images": a.images}
    session = Session.open(a.out, **inputs, **computing)
    try:
        _check_resumed(session, arguments, changes, spec)
    except InputError:
        session.close()
        raise
    return session


def _check_resumed(session: Session, arguments: Namespace, changes: dict[str, Any], spec: RefineSpec) -> None:
    """Raise InputError for whatever is set otherwise than in the run; an equal value is welcome."""
    source = session.source
    for name in ("subset", "apix"):
        given, kept = getattr(arguments, name), getattr(source, name) if source else None
        if given is not None and given != kept:
            raise InputError(
                f"--{name} {given}: the run {arguments.out} has {kept}: leave it out, or use another --out"
            )
    if arguments.resplit and (source is None or source.resplit is None):
        raise InputError(f"--resplit: the run {arguments.out} keeps the half sets of its file: use another --out")
    begun = session.state.node is not None
    for name in changes:
        given, kept = getattr(spec, name), getattr(session.spec, name)
        if begun and given != kept and name not in FREE_ON_RESUME:
            raise InputError(
                f"{name} = {given}: the run {arguments.out} has {kept}: leave it out, or use another --out"
            )
    session.edit(**{name: getattr(spec, name) for name in changes})


def _print_history(printer: Printer, history: tuple[Summary, ...]) -> None:
    for summary in history:
        printer.iteration("", summary)


def export(arguments: Namespace) -> None:
    """Write a step for other programs."""
    targets = {name: getattr(arguments, name) for name in KINDS}
    if not any(targets.values()):
        raise InputError("nothing to write: give " + ", ".join("--" + name.replace("_", "-") for name in KINDS))
    printer = Printer(arguments.json)
    with Session.open(arguments.run, write=False) as session:
        node = node_of(session, arguments.run, arguments.iteration)
        for path in session.export(node=node.id, **targets):
            printer.tell(f"wrote {path} (iteration {node.iteration})", "written", path=path, node=node.id)


def compare(arguments: Namespace) -> None:
    """Tell in what two steps differ, and draw it."""
    printer = Printer(arguments.json)
    with Session.open(arguments.run, write=False) as session:
        ids = [_named_step(session, arguments.run, text).id for text in (arguments.first, arguments.second)]
        found = session.compare(ids[0], ids[1], images=arguments.held_out)
        local = _local_resolution(session, printer, ids) if arguments.local else None
    if arguments.plot:
        from lrwidgets import plots

        plots.save(plots.compare(found), arguments.plot)
    medians = {name: float(found.poses[name].median()) for name in ("angle_difference", "shift_difference")}
    told = {} if found.held_out is None else dict(found.held_out.attrs)
    sentences = list(found.sentences)
    if local is not None:
        quartiles = " → ".join(", ".join(f"{value:.2f}" for value in one.quartiles_A) for one in local)
        windows = " and ".join(f"{one.window_A:.0f}" for one in local)
        sentences.append(f"local resolution inside the mask, quartiles: {quartiles} Å (windows of {windows} Å)")
        told["local_resolution_quartiles_A"] = [one.quartiles_A for one in local]
    printer.tell("\n".join(sentences), "compare", nodes=found.names, spec=found.spec, **medians, **told)


def _local_resolution(session: Session, printer: Printer, ids: list[str]) -> "list[LocalResolution]":
    """Of each step, by its half maps inside its mask."""
    from lrwidgets.present import local_of

    def tell(text: str) -> None:
        if not printer.as_json and sys.stderr.isatty():
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)

    return [local_of(session, name, tell) for name in ids]


def _named_step(session: Session, run: Path, text: str) -> Node:
    """The step of that iteration on the newest branch, or the only one whose name begins so."""
    if text.isdigit() and len(text) < 4:
        return node_of(session, run, int(text))
    found = [node for node in session.state.tree if node.id.startswith(text)]
    if len(found) != 1:
        names = ", ".join(node.id for node in found or session.state.tree)
        raise InputError(f"{text}: names {len(found) or 'no'} steps of {run}: choose one of {names}")
    return found[0]


def node_of(session: Session, run: Path, iteration: int | None) -> Node:
    """The step of that iteration on the newest branch."""
    path = session.path()
    if not path:
        raise InputError(f"{run}: has no whole step yet: go on with it by lrwidgets refine ... --resume")
    if iteration is None:
        return path[-1]
    found = [node for node in path if node.iteration == iteration]
    if not found:
        raise InputError(f"iteration {iteration}: {run} has iterations 0 to {path[-1].iteration}")
    return found[0]


def run_info(printer: Printer, path: Path) -> None:
    """The run's inputs, its tree, and the history of its newest branch."""
    store = Store.open(path, write=False)
    tree, head = store.tree(), store.head
    history = store.history(head.id) if head else ()
    if printer.as_json:
        nodes = [{"node": n.id, "parent": n.parent, "iteration": n.iteration} for n in tree]
        spec = head.spec.model_dump() if head else None
        summaries = [asdict(summary) for summary in history]
        printer.tell("", "info", file=path, kind="run", inputs=store.inputs, spec=spec, tree=nodes, history=summaries)
        return
    for name, one in store.inputs.items():
        printer.say(f"{name}: {one.get('path') or text(one)}")
    if head is None:
        printer.say("no whole step yet")
        return
    changed = {k: v for k, v in head.spec.model_dump().items() if v != getattr(DEFAULTS, k)}
    printer.say(f"parameters other than default: {json.dumps(changed) if changed else 'none'}")
    leaves = len(tree) - len({node.parent for node in tree if node.parent})
    printer.say(f"steps: {len(tree)}, branches: {leaves}; the newest:")
    _print_history(printer, history)
