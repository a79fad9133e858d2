"""Open a napari viewer with the panel."""

from typing import TYPE_CHECKING

from lrcore.errors import InputError
from lrwidgets.session.session import Session

if TYPE_CHECKING:
    from napari import Viewer

NAME = "Local refinement"
"""Title of the dock widget."""


def show_napari(session: Session | None = None, viewer: "Viewer | None" = None) -> "Viewer":
    """Show a session in napari.

    Parameters
    ----------
    session
        Session to show; without one the panel asks for data.
    viewer
        Viewer to use; by default a new one.

    Returns
    -------
    Viewer
        The viewer with the panel docked.

    Raises
    ------
    InputError
        If napari or Qt is not installed.
    """
    try:
        from napari import Viewer
        from qtpy.QtWidgets import QWidget  # noqa: F401 - whether there is a Qt at all
    except Exception as error:
        raise InputError(f"the viewer needs napari and Qt ({error}): pip install 'lrwidgets[napari-qt]'") from error
    from lrwidgets.napari_panel.panel import SessionPanel

    viewer = viewer or Viewer(title="lrwidgets")
    viewer.window.add_dock_widget(SessionPanel(viewer, session), name=NAME)
    return viewer
