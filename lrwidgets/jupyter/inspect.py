"""Looking at a step: its curves and histograms, its maps in slices and as a surface, and two steps side by side."""

from collections.abc import Callable
from functools import cache
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure

from lrcore.analysis.comparison import Comparison
from lrcore.errors import InputError
from lrcore.maps.local_resolution import LocalResolution
from lrcore.records import Progress, Step, Volume
from lrcore.refinement.density import final_map
from lrcore.refinement.job import Job
from lrcore.results.tree import mask_dataset
from lrwidgets import plots
from lrwidgets.gui.motion_surface import MotionSurfaces, motion_surfaces_of
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.jupyter.slices import SliceView
from lrwidgets.jupyter.surface import motion_player, surface_view
from lrwidgets.plots.catalogue import FIGURES, UNCERTAINTY, before_after_slices, data_code
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import local_resolution_of, maps_before_and_after, motion_plot_data, start_node
from lrwidgets.session.view_state import make_view_state

PRESENT = ""
"""The choice of whatever step is the present one."""


MOTION_CODE = "from lrwidgets.session.step_analysis import motion_of\nmotions, whole, mask = motion_of(session, {})"
MAPS = ("before / after", "half A / half B", "by local resolution")
ASK = "draw from every posterior with the map of the other half set, which has not seen the image: takes a while"
SPECIAL = ("Before / after", "Motion", "Motion in 3D", "Local resolution", "Slices", "Surface", "Compare")


class InspectWidget(Panel):
    """Shows a step of a session, the present one until another is chosen."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._tree: object = None
        self._comparison: Comparison | None = None
        self._silent = ProgrammaticChange()
        self._wish = 0
        self._build()
        self.connect(session.state_changed, self._changed)
        self._changed(session.state)

    def compare(self, found: Comparison) -> None:
        """Show two steps side by side. On any thread."""
        self._comparison = found
        self.publisher.publish("compare", self._show_comparison)

    def close(self) -> None:
        """Let go of the session, and end the threads."""
        self.view.close()
        super().close()

    def _build(self) -> None:
        self.what = w.ToggleButtons(options=[*FIGURES, *SPECIAL], style={"button_width": "auto"}, tooltips=[])
        self.what.add_class("lrw-inspect-what")
        narrow = w.Layout(width="360px")
        self.step = w.Dropdown(options=[("the present step", PRESENT)], description="step", layout=narrow)
        self.other = w.Dropdown(options=[], description="beside", layout=narrow)
        self.number = w.Dropdown(options=range(1, 7), description="motion", layout=w.Layout(width="160px"))
        self.maps = w.Dropdown(options=MAPS, description="maps", layout=w.Layout(width="240px"))
        for control, css in ((self.step, "step"), (self.other, "other"), (self.maps, "maps"), (self.number, "number")):
            control.add_class(f"lrw-inspect-{css}")
        self.ask = w.Button(description="ask the other half", tooltip=ASK, layout=w.Layout(width="160px"))
        self.ask.add_class("lrw-inspect-ask")
        self.ask.on_click(self.catch_errors(lambda _: self._ask_uncertainty(self._node())))
        self.figure = FigureView(self).add_class("lrw-inspect-figure")
        self.view = SliceView()
        self.body = w.VBox([self.figure]).add_class("lrw-inspect-body")
        self.choices = w.HBox([self.step])
        self.widget = w.VBox([self.what, self.choices, self.body, self.message]).add_class("lrw-inspect")
        for control in (self.what, self.step, self.other, self.maps, self.number):
            control.observe(self.catch_errors(lambda _: None if self._silent.is_active else self._draw()), "value")

    def _changed(self, state: RunState) -> None:
        if (state.tree, state.node) == self._tree:
            return
        moved = self._tree is None or (state.node != self._tree[1] and self.step.value == PRESENT)  # type: ignore[index]
        self._tree = (state.tree, state.node)
        self.publisher.publish("steps", self._list_steps)
        if moved:
            self.publisher.publish("draw", self._draw)

    def _list_steps(self) -> None:
        """Both lists of steps; what is chosen stays chosen."""
        shown = make_view_state(self.session.spec, self.session.state).tree
        options = [(branch.label, branch.node) for branch in shown]
        for control, more in ((self.step, [("the present step", PRESENT)]), (self.other, [])):
            chosen = control.value
            control.options = [*more, *options]
            if chosen in [value for _, value in control.options]:
                control.value = chosen

    def _node(self) -> str:
        node = self.step.value or self.session.state.node
        if node is None:
            raise InputError("there is no step yet: run one first")
        return str(node)

    def _draw(self) -> None:
        """Have shown what is chosen; the work is done by the panel's threads."""
        self._wish += 1
        if self.session.state.node is None:
            self.show_message("nothing to see yet: run a step", "neutral")
            return
        what, node = self.what.value, self._node()
        self.show_message("")
        shown = repr(self.step.value) if self.step.value else ""
        if what in FIGURES:
            make, title, _ = FIGURES[what]
            results = cache(lambda: self.session.results(node))  # once, for the figure and its code
            self._figure(
                lambda: make(results()), title, lambda: f"session.results({shown}){data_code(what, results())}"
            )  # fmt: skip
            if what == UNCERTAINTY:
                self.choices.children = [self.step, self.ask]
        elif what == "Before / after":
            start = start_node(self.session, node)
            self._figure(
                lambda: before_after_slices(self.session.results(node), self.session.results(start)),
                "Maps before and after", f'session.results({shown})["volumes"]',
            )  # fmt: skip
        elif what == "Motion":
            self._figure(
                lambda: plots.motion(*motion_plot_data(self.session, node)),
                "Fulcrum and principal motions", MOTION_CODE.format(shown or "session.state.node"),
            )  # fmt: skip
        elif what == "Motion in 3D":
            self._put([self.step, self.number], [])
            number = int(self.number.value)
            self.latest.submit(
                lambda: motion_surfaces_of(self.session, node, number),
                self._unless_changed(self._show_motion_surfaces),
                "swing",
            )
        elif what == "Compare":
            self._put([self.step, self.other], [self.figure])
            other = self.other.value
            if other:
                self.latest.submit(
                    lambda: self.session.compare(node, other), self._unless_changed(self.compare), "compare"
                )
        elif what == "Slices":
            self._put([self.step, self.maps], [self.view.widget])
            if self.maps.value == MAPS[2]:
                self._ask_local(node, self._show_local_slices)
            else:
                self.latest.submit(lambda: self._pair(node), self._unless_changed(self._show_pair), "slices")
        elif what == "Surface":
            self._put([self.step], [])
            self._ask_local(node, self._show_surface)
        else:
            self._put([self.step], [self.figure])
            self._ask_local(node, self._show_local)

    def _put(self, choices: list[w.Widget], body: list[w.Widget]) -> None:
        self.choices.children, self.body.children = choices, body

    def _figure(self, make: Callable[[], Figure], title: str, code: str | Callable[[], str]) -> None:
        self._put([self.step], [self.figure])
        self.figure.show_figure(make, title, title.lower().replace(" ", "_"), code)

    def _show_comparison(self) -> None:
        """Choose *Compare* and draw what was compared last."""
        found = self._comparison
        if found is None:
            return
        self._wish += 1
        known = dict(self.other.options).values()
        with self._silent():
            self.what.value = "Compare"
            for control, name in zip((self.step, self.other), found.names, strict=True):
                control.value = name if name in known else control.value
        self._put([self.step, self.other], [self.figure])
        self.show_message(found.summary_line)
        self.figure.show_figure(lambda: plots.compare(found), found.summary, "compare", 'session.compare("…").fsc')

    def _unless_changed(self, show: Callable[[Any], None]) -> Callable[[Any], None]:
        """Show a result unless something else has been chosen meanwhile."""
        wish = self._wish
        return lambda result: show(result) if self._wish == wish else None

    def _show_pair(self, shown: tuple[tuple[Volume, Volume], dict[str, Any]]) -> None:
        self.view.show(*shown[0], **shown[1])

    def _pair(self, node: str) -> tuple[tuple[Volume, Volume], dict[str, Any]]:
        """What `SliceView.show` is given for a pair of maps of a step."""
        if self.maps.value == MAPS[1]:
            _, step = self.session.load_step(node)
            halves = (step.half_maps.first, step.half_maps.second)
            return halves, {"names": ("half A", "half B"), "mode": "flicker"}
        maps = maps_before_and_after(self.session, node)
        return maps, {"names": ("before", "after"), "mode": "blend"}

    def _show_motion_surfaces(self, shown: MotionSurfaces) -> None:
        self.body.children = [motion_player(shown)]

    def _ask_uncertainty(self, node: str) -> None:
        """Draw from the posteriors, which takes a while, and show what the draws say."""

        def tell(at: Progress) -> None:
            self._measuring(f"draws from the posterior of particle {at.done} of {at.total} …")

        self.slow.submit(
            lambda: self.session.uncertainty(node, tell), self._unless_changed(lambda _: self._draw()), "sure"
        )

    # --- local resolution: slow, so on a thread of its own, and once for a step ---

    def _ask_local(self, node: str, show: "Show") -> None:
        def measured() -> tuple[LocalResolution, Job, Step]:
            local = local_resolution_of(self.session, node, self._measuring)
            found, step = self.session.load_step(node)
            return local, self.session.job_of(found), step

        self.slow.submit(measured, self._unless_changed(lambda result: show(*result)), "local")

    def _measuring(self, text: str) -> None:
        self.show_message(text, "neutral")

    def _show_local(self, found: LocalResolution, job: Job, _: Step) -> None:
        data = mask_dataset(job.mask)
        local = data["mask"].copy(data=found.map.data)
        self.figure.show_figure(
            lambda: plots.local_resolution(local, data["mask"]), "Local resolution", "local_resolution"
        )

    def _show_local_slices(self, found: LocalResolution, job: Job, step: Step) -> None:
        self.view.show(final_map(job, step), found.map, names=("map", "local resolution, Å"), mode="colour")

    def _show_surface(self, found: LocalResolution, job: Job, step: Step) -> None:
        volume = final_map(job, step)
        self.body.children = [surface_view(volume.data, found.map.data, job.mask.data, volume.pixel_size_A)]


Show = Callable[[LocalResolution, Job, Step], None]
