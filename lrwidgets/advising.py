"""Advice on the steps of a session, for every face, and how it is followed."""

import threading
from weakref import WeakKeyDictionary

from lrcore.advice import Advice
from lrcore.advise import advise
from lrcore.audit import Audit, audit
from lrcore.backend import pick
from lrcore.errors import InputError
from lrcore.heldout import HeldOut, held_out
from lrcore.motion_fit import ENOUGH
from lrwidgets.present import estimate_of, start_of
from lrwidgets.session import Session

LOOKS = 600
"""Held-out images by which a step is judged for advice: a second for a box of 128."""
_lock = threading.Lock()
_audits: "WeakKeyDictionary[Session, dict[str, Audit]]" = WeakKeyDictionary()
_worth: "WeakKeyDictionary[Session, dict[str, HeldOut]]" = WeakKeyDictionary()


def findings(session: Session, node: str) -> tuple[Advice, ...]:
    """Advice on a step: from its settings and its course, the motion that its poses tell, and the input of its run.

    What is worked out from images is kept for all faces that ask.
    """
    (found, step), begun = session.load_step(node), start_of(session, node)
    motion = None if node == begun or len(session.job.particles) < ENOUGH else estimate_of(session, node)
    with _lock:
        seen = _audit_of(session, node)
        worth = None if seen is None or step.iteration < 2 else _worth_of(session, node)
    return advise(session.job_of(found), session.load_step(begun)[1], step, motion, seen, worth)


def follow(session: Session, node: str, advice: Advice) -> None:
    """Branch from the step that the advice is about, or from the start of its run, as it says."""
    session.branch(start_of(session, node) if advice.from_start else node, mask=advice.mask, **advice.changes)


def _worth_of(session: Session, node: str) -> HeldOut | None:
    """A step against its start, by images that the maps have not seen; None without its images."""
    known = _worth.setdefault(session, {})
    if node not in known:
        (found, step), (_, first) = session.load_step(node), session.load_step(start_of(session, node))
        job = session.job_of(found)
        try:
            known[node] = held_out(first, (job, first), (job, step), pick("auto"), LOOKS)
        except InputError:
            return None
    return known[node]


def _audit_of(session: Session, node: str) -> Audit | None:
    """The input of a run looked at, once for its start and for each first iteration; None without its images."""
    begun, *after = (found.id for found in session.path(node)[:2])
    known = _audits.setdefault(session, {})
    if begun not in known:
        found, step = session.load_step(begun)
        try:
            known[begun] = audit(session.job_of(found), step, pick("auto"))
        except InputError:
            return None
    for one in after:
        if one not in known:
            known[one] = known[begun].followed(session.load_step(one)[1])
        return known[one]
    return known[begun]
