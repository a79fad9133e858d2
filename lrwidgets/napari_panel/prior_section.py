"""Prior and search: their widths over a picture of what they allow and how far the particles have moved."""

from qtpy.QtWidgets import QLabel

from lrcore.refinement.parameters import RefineSpec
from lrwidgets import plots
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.parameter_form import ParameterFormLayout
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import MotionWidths, changes_from_search_centres, current_motion_widths

NAMES = (
    "prior", "rotation_prior_sd_deg", "shift_prior_sd_A", "rotation_extent_deg", "shift_extent_A",
    "recenter_rotations", "recenter_shifts", "max_align_resolution_A",
)  # fmt: skip


class PriorSection(Section):
    """Edits the session's prior, extents and re-centring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._node: str | None = None
        self._learned: MotionWidths | None = None
        self.form = ParameterFormLayout(self, session, NAMES)
        self.rows.addLayout(self.form)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.use = self.button(
            "prior-learned", "Use learned widths", "a prior as wide as the motion of the last step", self._use
        )
        self.use.setEnabled(False)
        self.rows.addWidget(self.words)
        self.rows.addWidget(self.use)
        self.figure = FigureBox(self)
        self.rows.addWidget(self.message)
        self.rows.addWidget(self.figure)
        self.rows.addStretch(1)
        self.connect(session.spec_changed, self._changed)
        self.connect(session.state_changed, self._moved_on)
        self._draw()
        self._moved_on(session.state)

    def _changed(self, _: RefineSpec) -> None:
        self._draw()

    def _moved_on(self, state: RunState) -> None:
        if state.node != self._node:
            self._node = state.node
            self._draw()
            self.latest.submit(lambda: current_motion_widths(self.session), self._show_learned, "learned")

    def _show_learned(self, found: MotionWidths | None) -> None:
        self._learned = found
        self.use.setEnabled(found is not None)
        self.words.setText(str(found or ""))
        self._draw()

    def _use(self) -> None:
        """Make the prior as wide as the motion was."""
        if self._learned is not None:
            self.session.edit(**self._learned.prior_settings)

    def _draw(self) -> None:
        session = self.session
        self.figure.show_figure(
            lambda: plots.prior(session.spec, changes_from_search_centres(session), self._learned, narrow=True)
        )
