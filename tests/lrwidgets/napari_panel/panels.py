"""What tests of the panel share: waiting for what was asked, and pressing buttons."""

from qtpy.QtWidgets import QPushButton

from lrwidgets.napari_panel.fulcrum_section import FulcrumSection
from lrwidgets.napari_panel.panel import SessionPanel
from lrwidgets.session.session import Session


def settled(panel: SessionPanel, session: Session) -> None:
    """What was asked of the session is done and shown."""
    session._do(lambda: None, True)
    assert panel.flush()


def press(panel: SessionPanel, name: str) -> None:
    panel.findChild(QPushButton, f"lrw-{name}").click()


def moved(panel: SessionPanel) -> FulcrumSection:
    section = panel.sections["Fulcrum"]
    assert isinstance(section, FulcrumSection)
    return section
