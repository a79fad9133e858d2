"""What the present step of a session has for widgets to show: its map, and the hinge that its poses tell of."""

import threading
from weakref import WeakKeyDictionary

from lrcore.motion import Hinge
from lrcore.records import Volume
from lrwidgets.estimate import estimate
from lrwidgets.session import Session

_lock = threading.Lock()
_hinges: "WeakKeyDictionary[Session, tuple[str, Hinge]]" = WeakKeyDictionary()


def map_of(session: Session) -> Volume | None:
    """The map of the present step, or of the input: the mean of the half maps; None before there are any."""
    halves = session.load_step()[1].half_maps if session.state.node else session.job.half_maps
    if halves is None:
        return None
    first, second = halves.first, halves.second
    return Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A)


def hinge_of(session: Session) -> Hinge | None:
    """Where the body turns and how far, as the poses of the present step tell; None before an iteration.

    It takes seconds, so that of a step is worked out once for all widgets that ask.
    """
    path = session.path()
    if len(path) < 2:
        return None
    with _lock:
        known = _hinges.get(session)
        if known is None or known[0] != path[-1].id:
            (node, step), (_, before) = (session.load_step(path[at].id) for at in (-1, -2))
            known = (node.id, estimate(session.job_of(node), step, before).all)
            _hinges[session] = known
        return known[1]
