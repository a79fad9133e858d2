"""Open a session in the notebook."""

from collections.abc import Callable

import ipywidgets as w

from lrwidgets.gui.data_model import BACKEND, BACKENDS, BUTTONS, FILES, RESPLIT, DataModel, description_html
from lrwidgets.jupyter.base import Panel
from lrwidgets.session.session import Session

STYLE = {"description_width": "110px"}


class DataWidget(Panel):
    """Ask for data and pass a session to `opened`, on the publisher's thread."""

    def __init__(self, opened: Callable[[Session], None], session: Session | None = None) -> None:
        super().__init__()
        self.model = model = DataModel(self, self, opened)
        self.fields = {name: self._field(name, label, tip) for name, label, tip in FILES}
        label, tip = BACKEND
        self.backend = w.Dropdown(options=BACKENDS, description=label, tooltip=tip, style=STYLE)
        label, tip = RESPLIT
        self.resplit = w.Checkbox(description=label, tooltip=tip, indent=False, layout=w.Layout(width="auto"))
        self.load = self.button("data-load", *BUTTONS["load"], lambda: model.load(self._values()), "primary")
        self.open = self.button("data-open", *BUTTONS["open"], lambda: model.open_run(self._values()["run"]))
        self.demo = self.button("data-demo", *BUTTONS["demo"], model.open_example)
        self.about = w.HTML().add_class("lrw-data-about")
        buttons = w.HBox([self.load, self.open, self.demo])
        options = w.HBox([self.backend.add_class("lrw-data-backend"), self.resplit.add_class("lrw-data-resplit")])
        rows = [*self.fields.values(), options, buttons, self.message, self.about]
        self.widget = w.VBox(rows).add_class("lrw-data")
        if session is not None:
            model.show(session)

    def describe(self, session: Session) -> None:
        """Show what is loaded."""
        self.about.value = description_html(session)

    def _field(self, name: str, label: str, tip: str) -> w.Text:
        words = {"description": label, "placeholder": tip, "tooltip": tip}
        field = w.Text(**words, style=STYLE, layout=w.Layout(width="96%"), continuous_update=False)
        return field.add_class(f"lrw-data-{name}")

    def _values(self) -> dict[str, str]:
        typed = {name: str(field.value) for name, field in self.fields.items()}
        return {**typed, "backend": str(self.backend.value), "resplit": str(self.resplit.value)}
