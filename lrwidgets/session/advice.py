"""Advice on the steps of a session, for every face, and how it is followed."""

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
    """Advice on a step: from its settings and its course, the motion that its poses tell, and the input of its run.

    What is worked out from images is kept for all faces that ask.
    """
    (found, step), begun = session.load_step(node), start_node(session, node)
    motion = None if node == begun or len(session.job.particles) < MIN_IMAGES else motion_estimate_of(session, node)
    with _lock:
        seen = _audit_of(session, node)
        worth = None if seen is None or step.iteration < 2 else _score_against_start(session, node)
    return advise_on_step(session.job_of(found), session.load_step(begun)[1], step, motion, seen, worth)


def apply_finding(session: Session, node: str, advice: Finding) -> None:
    """Branch from the step that the advice is about, or from the start of its run, as it says."""
    session.branch(start_node(session, node) if advice.from_start else node, mask=advice.mask, **advice.changes)


def _score_against_start(session: Session, node: str) -> HeldOut | None:
    """A step against its start, by images that the maps have not seen; None without its images."""
    known = _scores.setdefault(session, {})
    if node not in known:
        (found, step), (_, first) = session.load_step(node), session.load_step(start_node(session, node))
        job = session.job_of(found)
        try:
            known[node] = held_out(first, (job, first), (job, step), get_backend("auto"), HELD_OUT_IMAGES)
        except InputError:
            return None
    return known[node]


def _audit_of(session: Session, node: str) -> InputAudit | None:
    """The input of a run looked at, once for its start and for each first iteration; None without its images."""
    begun, *after = (found.id for found in session.path(node)[:2])
    known = _audits.setdefault(session, {})
    if begun not in known:
        found, step = session.load_step(begun)
        try:
            known[begun] = audit_input(session.job_of(found), step, get_backend("auto"))
        except InputError:
            return None
    for one in after:
        if one not in known:
            known[one] = known[begun].with_first_iteration(session.load_step(one)[1])
        return known[one]
    return known[begun]
