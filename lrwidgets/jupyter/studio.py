"""Combine all widgets in one panel: data, mask, fulcrum, priors, run, sweep, inspect, export."""

import html
from collections.abc import Callable

import ipywidgets as w

from lrcore.analysis.comparison import Comparison
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.data import DataWidget
from lrwidgets.jupyter.export import ExportWidget
from lrwidgets.jupyter.fulcrum import FulcrumWidget
from lrwidgets.jupyter.inspect import InspectWidget
from lrwidgets.jupyter.mask import MaskWidget
from lrwidgets.jupyter.prior import PriorWidget
from lrwidgets.jupyter.run import RunWidget
from lrwidgets.jupyter.sweep import SweepWidget
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.view_state import make_view_state

TABS: dict[str, Callable[[Session], Panel]] = {
    "Mask": MaskWidget,
    "Fulcrum": FulcrumWidget,
    "Priors": PriorWidget,
    "Run": RunWidget,
    "Sweep": SweepWidget,
    "Inspect": InspectWidget,
    "Export": ExportWidget,
}
HEIGHT = "max(500px, calc(100vh - 230px))"
"""Largest height of a tab: with the head and JupyterLab's own bars it fits the window."""


class Studio(Panel):
    """Everything about a session in one panel. Without a session it asks for data first.

    Attributes
    ----------
    session
        The session shown, or None.
    parts
        Widgets by the name of their tab.
    """

    def __init__(self, session: Session | None = None) -> None:
        super().__init__()
        self.session: Session | None = None
        self.parts: dict[str, Panel] = {}
        self.data = DataWidget(self._open, session)
        self.head = w.HTML().add_class("lrw-head")
        self.tabs = w.Tab([self._tab("data", self.data)], titles=("Data",)).add_class("lrw-tabs")
        self.widget = w.VBox([self.head, self.tabs, self.message]).add_class("lrw-studio")
        if session is not None:
            self._open(session)

    def close(self) -> None:
        """End all threads of the panel; the session continues."""
        for part in (self.data, *self.parts.values()):
            part.close()
        super().close()

    def _tab(self, name: str, part: Panel) -> w.Widget:
        layout = w.Layout(max_height=HEIGHT, overflow="auto")
        part.widget.layout.flex = "0 0 auto"  # or a tab that is too low would squash what it holds
        return w.VBox([part.widget], layout=layout).add_class(f"lrw-tab-{name}")

    def _open(self, session: Session) -> None:
        """Show a session in place of the one before, which continues without a view."""
        for part in self.parts.values():
            part.close()
        self.disconnect_all()
        self.session = session
        self.parts = {name: make(session) for name, make in TABS.items()}
        run, inspect = self.parts["Run"], self.parts["Inspect"]
        assert isinstance(run, RunWidget)
        assert isinstance(inspect, InspectWidget)
        self.subscribe(run.model.comparison_done, lambda found: self._show_comparison(inspect, found))
        self.subscribe(run.model.figure_requested, lambda figure: self._show_requested_figure(inspect, figure))
        self.subscribe(session.state_changed, self._changed)
        tabs = {"Data": self.data, **self.parts}
        self.tabs.children = [self._tab(name.lower(), part) for name, part in tabs.items()]
        self.tabs.titles = tuple(tabs)
        self.tabs.selected_index = 1 + list(TABS).index("Run") if session.state.tree else 1
        self._changed(session.state)

    def _show_comparison(self, inspect: InspectWidget, found: Comparison) -> None:
        inspect.compare(found)
        self._select_tab("Inspect")

    def _select_tab(self, name: str) -> None:
        self.tabs.selected_index = 1 + list(TABS).index(name)

    def _show_requested_figure(self, inspect: InspectWidget, figure: str) -> None:
        inspect.figure_choice.value = figure
        self._select_tab("Inspect")

    def _changed(self, _: RunState) -> None:
        self.publisher.publish("head", self._show_head)

    def _show_head(self) -> None:
        """Show the state in the line above the tabs."""
        session = self.session
        if session is None:
            return
        shown = make_view_state(session.spec, session.state)
        words = [session.summary(), shown.status, shown.progress]
        self.head.value = html.escape(" · ".join(word for word in words if word))
