"""Inspect a step in the notebook: curves and histograms, maps in slices and as a surface, two steps side by side."""

import html
from collections.abc import Callable
from functools import cache, partial

import ipywidgets as w
from matplotlib.figure import Figure

from lrcore.analysis.comparison import Comparison
from lrcore.errors import InputError
from lrcore.records import Volume
from lrwidgets import plots
from lrwidgets.gui.inspect_model import MOTION_CODE, UNCERTAINTY_TIP, InspectModel, LocalResolutionMap
from lrwidgets.gui.motion_surface import MotionSurfaces
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.gui.run_model import name_steps
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.jupyter.slices import SliceView
from lrwidgets.jupyter.surface import motion_player, surface_view
from lrwidgets.plots.catalogue import FIGURES, UNCERTAINTY
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.view_state import make_view_state

PRESENT = ""
"""Choice of whatever step is the present one."""
MAPS = ("before / after", "half A / half B", "by local resolution")
SPECIAL = ("Before / after", "Motion", "Motion in 3D", "Local resolution", "Slices", "Surface", "Compare")
NARROW = w.Layout(width="360px")


class InspectWidget(Panel):
    """Show a step of a session, the present one until another is chosen."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.model = InspectModel(session, self)
        self._tree: tuple[object, str | None] | None = None
        self._comparison: Comparison | None = None
        self._silent = ProgrammaticChange()
        self._draw_special: dict[str, Callable[[str], None]] = {
            "Before / after": self._draw_before_after,
            "Motion": self._draw_motion,
            "Motion in 3D": self._draw_motion_surfaces,
            "Local resolution": self._draw_local_resolution,
            "Slices": self._draw_slices,
            "Surface": self._draw_surface,
            "Compare": self._draw_comparison,
        }
        self._build()
        self.subscribe(session.state_changed, self._changed)
        self._changed(session.state)

    def compare(self, found: Comparison) -> None:
        """Show two steps side by side. On any thread."""
        self._comparison = found
        self.publisher.publish("compare", self._show_comparison)

    def show_error(self, error: Exception) -> None:
        """Show an error as a sentence; nothing is computed any more."""
        super().show_error(error)
        self.publisher.publish("busy", lambda: self._show_busy(""))

    def close(self) -> None:
        """Disconnect from the session and end the threads."""
        super().close()
        self.view.close()

    def _build(self) -> None:
        self.figure_choice = w.ToggleButtons(options=[*FIGURES, *SPECIAL], style={"button_width": "auto"}, tooltips=[])
        self.step = w.Dropdown(options=[("current step", PRESENT)], description="step", layout=NARROW)
        self.other = w.Dropdown(options=[], description="compare with", layout=NARROW)
        self.number = w.Dropdown(options=range(1, 7), description="motion", layout=w.Layout(width="160px"))
        self.maps = w.Dropdown(options=MAPS, description="maps", layout=w.Layout(width="240px"))
        controls = {
            "what": self.figure_choice,
            "step": self.step,
            "other": self.other,
            "number": self.number,
            "maps": self.maps,
        }
        for name, control in controls.items():
            control.add_class(f"lrw-inspect-{name}").observe(
                self.catch_errors(lambda _: None if self._silent.is_active else self._draw()), "value"
            )
        self.validate = self.button(
            "inspect-ask", "Validate against the other half map", UNCERTAINTY_TIP, self._validate
        )
        self.figure = FigureView(self).add_class("lrw-inspect-figure")
        self.view, self.waiting = SliceView(), w.HTML().add_class("lrw-inspect-waiting")
        self.body = w.VBox([self.figure]).add_class("lrw-inspect-body")
        self.choices = w.HBox([self.step])
        self.widget = w.VBox([self.figure_choice, self.choices, self.body, self.message]).add_class("lrw-inspect")

    # --- what the session does

    def _changed(self, state: RunState) -> None:
        before, self._tree = self._tree, (state.tree, state.node)
        if before == self._tree:
            return
        self.publisher.publish("steps", self._list_steps)
        if before is None or (state.node != before[1] and self.step.value == PRESENT):
            self.publisher.publish("draw", self._draw)

    def _list_steps(self) -> None:
        """List the steps twice; what is chosen stays chosen."""
        rows = make_view_state(self.session.spec, self.session.state).tree
        options = [(row.label, row.node) for row in rows]
        for control, more in ((self.step, [("current step", PRESENT)]), (self.other, [])):
            chosen = control.value
            control.options = [*more, *options]
            if chosen in [value for _, value in control.options]:
                control.value = chosen

    # --- what is chosen

    def _node(self) -> str:
        node = self.step.value or self.session.state.node
        if node is None:
            raise InputError("there is no step yet: run one first")
        return str(node)

    def _chosen(self) -> str:
        """Return the chosen step as Python; empty for the present one."""
        return repr(self.step.value) if self.step.value else ""

    def _validate(self) -> None:
        node = self._node()
        self._show_busy("posteriors …")
        self.model.request_uncertainty(node, self._draw)

    def _draw(self) -> None:
        """Show what is chosen; the panel's threads do the work."""
        self.model.new_choice()
        if self.model.present_node() is None:
            return
        self.show_message("")
        draw = self._draw_special.get(self.figure_choice.value, self._draw_results)
        draw(self._node())

    def _put(self, choices: list[w.Widget], waiting_for: str = "") -> None:
        """Show what can be chosen, and that the figure or, with a text, something else is being computed."""
        self.choices.children = choices
        self._show_busy(waiting_for or f"{self.figure_choice.value} …")
        self.body.children = [self.waiting] if waiting_for else [self.figure]

    def _show_busy(self, text: str) -> None:
        """Show what is computed, over a dimmed figure or in place of the body; empty: nothing is."""
        self.figure.busy = text
        self.waiting.value = f'<output class="lrw-busy-text">{html.escape(text)}</output>' if text else ""

    def _show_body(self, widget: w.Widget) -> None:
        """Show what has been computed."""
        self._show_busy("")
        self.body.children = [widget]

    def _figure(self, make: Callable[[], Figure], title: str, code: str | Callable[[], str]) -> None:
        self._put([self.step])
        self.figure.show_figure(make, title, title.lower().replace(" ", "_"), code)

    def _draw_results(self, node: str) -> None:
        name, model, chosen = self.figure_choice.value, self.model, self._chosen()
        results = cache(lambda: self.session.results(node))  # once for the figure and its code
        self._figure(
            lambda: model.results_figure(name, node, results()),
            FIGURES[name][1],
            lambda: model.results_code(name, chosen, results()),
        )
        if name == UNCERTAINTY:
            self.choices.children = [self.step, self.validate]

    def _draw_before_after(self, node: str) -> None:
        code = f'session.results({self._chosen()})["volumes"]'
        self._figure(lambda: self.model.before_after_figure(node), "Maps before and after", code)

    def _draw_motion(self, node: str) -> None:
        code = MOTION_CODE.format(self._chosen() or "session.state.node")
        self._figure(lambda: self.model.motion_figure(node), "Fulcrum and principal motions", code)

    def _draw_motion_surfaces(self, node: str) -> None:
        self._put([self.step, self.number], "surfaces of the motion …")
        self.model.request_motion_surfaces(node, int(self.number.value), self._show_motion_surfaces)

    def _draw_comparison(self, node: str) -> None:
        self._put([self.step, self.other])
        if not self.other.value:
            self._show_busy("")
        else:
            self.model.request_comparison(node, self.other.value, self.compare)

    def _draw_slices(self, node: str) -> None:
        self._put([self.step, self.maps], "maps …")
        if self.maps.value == MAPS[2]:
            self.model.request_local_resolution(node, self._show_local_slices)
        elif self.maps.value == MAPS[1]:
            self.model.request_half_maps(node, self._show_half_maps)
        else:
            self.model.request_maps(node, self._show_maps)

    def _draw_surface(self, node: str) -> None:
        self._put([self.step], "local resolution …")
        self.model.request_local_resolution(node, self._show_surface)

    def _draw_local_resolution(self, node: str) -> None:
        self._put([self.step])
        self.model.request_local_resolution(node, self._show_local_resolution)

    # --- what is shown

    def _show_comparison(self) -> None:
        """Choose *Compare* and draw what was compared last."""
        found = self._comparison
        if found is None:
            return
        self.model.new_choice()
        known = dict(self.other.options).values()
        with self._silent():
            self.figure_choice.value = "Compare"
            for control, name in zip((self.step, self.other), found.names, strict=True):
                control.value = name if name in known else control.value
        self._put([self.step, self.other])
        named = name_steps(found, self.session)
        self.show_message(named.summary_line)
        code = "session.compare({!r}, {!r}).fsc".format(*found.names)
        self.figure.show_figure(lambda: plots.compare(named), named.summary, "compare", code)

    def _show_maps(self, maps: tuple[Volume, Volume]) -> None:
        self._show_body(self.view.widget)
        self.view.show(*maps, names=("before", "after"), mode="blend")

    def _show_half_maps(self, maps: tuple[Volume, Volume]) -> None:
        self._show_body(self.view.widget)
        self.view.show(*maps, names=("half A", "half B"), mode="flicker")

    def _show_motion_surfaces(self, shown: MotionSurfaces) -> None:
        self._show_body(motion_player(shown))

    def _show_local_resolution(self, found: LocalResolutionMap) -> None:
        make = partial(plots.local_resolution, *found.arrays())
        self.figure.show_figure(make, "Local resolution", "local_resolution")

    def _show_local_slices(self, found: LocalResolutionMap) -> None:
        self._show_body(self.view.widget)
        self.view.show(found.volume, found.local.map, names=("map", "local resolution, Å"), mode="colour")

    def _show_surface(self, found: LocalResolutionMap) -> None:
        volume = found.volume
        self._show_body(surface_view(volume.data, found.local.map.data, found.mask.data, volume.pixel_size_A))
