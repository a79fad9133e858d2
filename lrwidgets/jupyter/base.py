"""Give every widget its threads, message line and end, drawn with ipywidgets."""

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from lrwidgets.gui.panel_base import PanelBase, Tone
from lrwidgets.gui.threads import Publisher
from lrwidgets.jupyter.subshell import route_to_subshell

BAD = "var(--jp-error-color1, #D55E00)"
COLOURS: dict[Tone, str] = {"good": "var(--jp-success-color1, #009E73)", "bad": BAD, "neutral": "inherit"}
AUTO = w.Layout(width="auto")
ROW = w.Layout(align_items="center", flex_flow="row wrap")


class Panel(PanelBase):
    """Widget with its threads. Subclasses set `widget` and put `message`, one line, into it."""

    widget: w.Widget

    def __init__(self) -> None:
        self.message = w.HTML().add_class("lrw-message")
        self.start_threads(Publisher(self.show_error))
        self._is_routed = False

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if not self._is_routed:
            self._is_routed = True
            route_to_subshell(self.widget)
        return self.widget._repr_mimebundle_(**options)

    def write_message(self, text: str, tone: Tone) -> None:
        """Write the message line; an empty text clears it. On any thread."""
        shown = coloured(text, tone)
        self.publisher.publish(self.message, lambda: setattr(self.message, "value", shown))

    def button(self, name: str, text: str, tip: str, act: Callable[[], Any], style: str = "") -> w.Button:
        """Make a button with a class by which tests find it."""
        button = w.Button(description=text, tooltip=tip, button_style=style, layout=w.Layout(width="auto"))
        button.on_click(self.on_press(act))
        return button.add_class(f"lrw-{name}")

    def close(self) -> None:
        """Disconnect from the session and end the threads."""
        self.stop_threads()


def coloured(text: str, tone: Tone) -> str:
    """Return a text as HTML; empty for an empty text."""
    return f'<span style="color: {COLOURS[tone]}">{html.escape(text)}</span>' if text else ""
