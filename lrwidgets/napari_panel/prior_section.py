"""Edit prior and search extents in the dock."""

from lrwidgets.gui.panel_base import Tone
from lrwidgets.gui.prior_model import PRIOR_FIELDS, USE_WIDTHS, PriorModel
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.parameter_form import ParameterFormLayout
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session


class PriorSection(Section):
    """Edit prior, extents and re-centring of a session."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.form = ParameterFormLayout(self, session, PRIOR_FIELDS)
        self.rows.addLayout(self.form)
        self.learned = self.label("prior-learned-words")
        self.use = self.button("prior-learned", *USE_WIDTHS, lambda: self.model.use_widths())
        self.use.setEnabled(False)
        self.rows.addWidget(self.use)
        self.warning = self.label("prior-warning")
        self.figure = FigureBox(self)
        self.rows.addWidget(self.message)
        self.rows.addWidget(self.figure)
        self.rows.addStretch(1)
        self.model = PriorModel(session, self, self)
        self.model.start()

    def show_widths(self, text: str, available: bool) -> None:
        """Show the estimated widths, and whether they can be used."""
        self.learned.setText(text)
        self.use.setEnabled(available)

    def show_warning(self, text: str, tone: Tone) -> None:
        """Show what re-centring implies; an empty text clears it."""
        self.show_coloured(self.warning, text, tone)
        self.warning.setVisible(bool(text))

    def draw(self) -> None:
        """Show the model's figure."""
        self.figure.show_figure(lambda: self.model.figure(narrow=True))
