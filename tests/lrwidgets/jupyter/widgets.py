"""What tests of widgets share: a session on made-up data, and waiting for what its threads do."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import ipywidgets as w

from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.number import NumberControl
from lrwidgets.session.session import Session

AnyPanel = TypeVar("AnyPanel", bound=Panel)


def wait_until(condition: Callable[[], Any], what: str = "it", seconds: float = 60.0) -> None:
    """Wait for a condition; fails with what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def opened(panel: AnyPanel) -> Iterator[AnyPanel]:
    """A panel for a fixture to `yield from`: shown before, closed after."""
    assert panel.flush()
    yield panel
    panel.close()


def is_idle(session: Session) -> bool:
    """Whether nothing runs."""
    return session.state.phase == "idle"


def all_of(widget: w.Widget) -> list[w.Widget]:
    """A widget and all that is in it."""
    return [widget, *(one for child in getattr(widget, "children", ()) for one in all_of(child))]


def classes_of(widget: w.Widget) -> set[str]:
    """The classes of a widget and of all that is in it."""
    return {name for one in all_of(widget) for name in getattr(one, "_dom_classes", ())}


def of_class(widget: w.Widget, name: str) -> Any:
    """The widget of a class, such as a button to click."""
    return next(one for one in all_of(widget) if name in getattr(one, "_dom_classes", ()))


def by_hand(control: w.Widget, value: Any) -> None:
    """What a browser sends when a person sets a control."""
    if isinstance(control, NumberControl):
        control.set_state({"hand": {"text": str(value), "move": control.hand.get("move", 0) + 1}})
    else:
        control.value = value
