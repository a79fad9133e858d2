"""Edit prior and search extents in the notebook."""

import html

import ipywidgets as w

from lrwidgets.gui.panel_base import Tone
from lrwidgets.gui.prior_model import PRIOR_FIELDS, USE_WIDTHS, PriorModel
from lrwidgets.jupyter.base import Panel, coloured
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.jupyter.parameter_form import ParameterForm
from lrwidgets.session.session import Session

TITLE = "Prior, extents and how far the particles have moved"
CODE = 'session.results()["particles"].to_dataset()[["angle_change", "shift_change"]]'


class PriorWidget(Panel):
    """Edit prior, extents and re-centring of a session."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.form = ParameterForm(self, session, PRIOR_FIELDS, "prior")
        self.figure = FigureView(self).add_class("lrw-prior-figure")
        self.warning = w.HTML().add_class("lrw-prior-warning")
        self.learned = w.HTML().add_class("lrw-prior-learned")
        self.use = self.button("prior-learned-apply", *USE_WIDTHS, lambda: self.model.use_widths())
        self.use.disabled = True
        self.figure.layout = w.Layout(flex="1 1 auto", min_width="0")
        more = [self.learned, self.use, self.warning, self.message]
        controls = w.VBox([*self.form.controls.values(), *more], layout=w.Layout(flex="0 0 auto", max_width="395px"))
        self.widget = w.HBox([controls, self.figure], layout=w.Layout(align_items="flex-start")).add_class("lrw-prior")
        self.model = PriorModel(session, self, self)
        self.model.start()

    def show_widths(self, text: str, available: bool) -> None:
        """Show the estimated widths, and whether they can be used."""
        self.learned.value, self.use.disabled = html.escape(text), not available

    def show_warning(self, text: str, tone: Tone) -> None:
        """Show what re-centring implies; an empty text clears it."""
        self.warning.value = coloured(text, tone)

    def draw(self) -> None:
        """Show the model's figure."""
        self.figure.show_figure(self.model.figure, TITLE, "prior", CODE)
