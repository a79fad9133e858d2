"""Give advice on the steps of a session, the same in every interface, and apply it."""

import contextlib
import threading
from weakref import WeakKeyDictionary

from lrcore.analysis.advice.advise import advise_on_step
from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.held_out_likelihood import HeldOut, held_out
from lrcore.analysis.input_audit import InputAudit, audit_input
from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.motion.fit import MIN_IMAGES
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import motion_estimate_of, start_node

HELD_OUT_IMAGES = 600
"""Held-out images by which a step is judged for advice: a second for a box of 128."""
_lock = threading.Lock()
_audits: "WeakKeyDictionary[Session, dict[str, InputAudit]]" = WeakKeyDictionary()
_scores: "WeakKeyDictionary[Session, dict[str, HeldOut]]" = WeakKeyDictionary()


def findings(session: Session, node: str) -> tuple[Finding, ...]:
    """Return advice on a step, from its settings, its history, the motion in its poses and the input of its run.

    What is computed from images is kept in memory for all interfaces.

    Parameters
    ----------
    session : the session
    node : id of the step

    Returns
    -------
    tuple[Finding, ...]
        The findings, each with what was observed and the settings that would change it.

    Raises
    ------
    InputError
        If there is no such step.
    """
    (stored, step), start = session.load_step(node), start_node(session, node)
    motion = None
    if node != start and len(session.job.particles) >= MIN_IMAGES:
        with contextlib.suppress(InputError):  # the poses do not determine a motion: its checks are skipped
            motion = motion_estimate_of(session, node)
    with _lock:
        audit = _audit_of(session, node)
        score = None if audit is None or step.iteration < 2 else _score_against_start(session, node)
    return advise_on_step(session.job_of(stored), session.load_step(start)[1], step, motion, audit, score)


def apply_finding(session: Session, node: str, advice: Finding) -> None:
    """Branch from the step that the advice is about, or from the start of its run, with the changes that it names."""
    session.branch(start_node(session, node) if advice.from_start else node, mask=advice.mask, **advice.changes)


def _score_against_start(session: Session, node: str) -> HeldOut | None:
    """Compare a step with its start by held-out images; None if the images cannot be read."""
    known = _scores.setdefault(session, {})
    if node not in known:
        (stored, step), (_, first) = session.load_step(node), session.load_step(start_node(session, node))
        job = session.job_of(stored)
        try:
            known[node] = held_out(first, (job, first), (job, step), get_backend("auto"), HELD_OUT_IMAGES)
        except InputError:
            return None
    return known[node]


def _audit_of(session: Session, node: str) -> InputAudit | None:
    """Audit the input of a run, once for its start and for each first iteration; None if its images cannot be read."""
    start, *later = (stored.id for stored in session.path(node)[:2])
    known = _audits.setdefault(session, {})
    if start not in known:
        stored, step = session.load_step(start)
        try:
            known[start] = audit_input(session.job_of(stored), step, get_backend("auto"))
        except InputError:
            return None
    for first_iteration in later:
        if first_iteration not in known:
            known[first_iteration] = known[start].with_first_iteration(session.load_step(first_iteration)[1])
        return known[first_iteration]
    return known[start]
