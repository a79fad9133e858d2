"""The way in: files by their paths, a run to go on with, or data made up for a first look."""

from collections.abc import Callable

import ipywidgets as w

from lrwidgets.gui import file_actions
from lrwidgets.jupyter.base import Panel
from lrwidgets.session.session import Session

STYLE = {"description_width": "110px"}


class DataWidget(Panel):
    """Asks for data and hands a session to `opened`, on the publisher's thread."""

    def __init__(self, opened: Callable[[Session], None], session: Session | None = None) -> None:
        super().__init__()
        self._opened = opened
        self.fields = {name: self._field(*words) for name, *words in file_actions.FILES}
        for name, field in self.fields.items():
            field.add_class(f"lrw-data-{name}")
        self.load = self._button("Load", "lrw-data-load", "read and check these files", self._load, "primary")
        self.open = self._button("Open run", "lrw-data-open", "go on with a run from its last whole step", self._open)
        tip = "simulate a flexible particle in the folder example, unless it is there, and load it"
        self.demo = self._button("Demo data", "lrw-data-demo", tip, self._demo)
        self.about = w.HTML().add_class("lrw-data-about")
        buttons = w.HBox([self.load, self.open, self.demo])
        self.widget = w.VBox([*self.fields.values(), buttons, self.about, self.message]).add_class("lrw-data")
        if session is not None:
            self.describe(session)

    def describe(self, session: Session) -> None:
        """Say what is loaded."""
        self.about.value = session._repr_html_()

    def _field(self, text: str, tip: str) -> w.Text:
        words = {"description": text, "placeholder": tip, "tooltip": tip}
        return w.Text(**words, style=STYLE, layout=w.Layout(width="96%"), continuous_update=False)

    def _button(self, text: str, css: str, tip: str, act: Callable[[], None], style: str = "") -> w.Button:
        made = w.Button(description=text, tooltip=tip, button_style=style).add_class(css)
        made.on_click(self.catch_errors(lambda _: act()))
        return made

    def _load(self) -> None:
        words = {name: str(field.value) for name, field in self.fields.items()}
        self._ask("reading …", lambda: file_actions.load_session(words))

    def _open(self) -> None:
        path = str(self.fields["run"].value)
        self._ask("opening …", lambda: file_actions.open_run(path))

    def _demo(self) -> None:
        self._ask("simulating a flexible particle …", file_actions.open_example)

    def _ask(self, words: str, make: Callable[[], Session]) -> None:
        self.show_message(words, "inherit")
        self.latest.submit(make, self._take, "data")

    def _take(self, session: Session) -> None:
        self.describe(session)
        self.show_message("loaded")
        self._opened(session)
