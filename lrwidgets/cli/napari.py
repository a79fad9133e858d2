"""`lrwidgets napari`: open the napari viewer with the panel."""

from argparse import Namespace

from lrwidgets.napari_panel.show import show_napari
from lrwidgets.session.session import Session


def napari(arguments: Namespace) -> None:
    """Open the viewer, with the run if there is one, and return when it is closed."""
    if arguments.run is None:
        _show_until_closed(None)
        return
    with Session.open(arguments.run, write=not arguments.read_only) as session:
        _show_until_closed(session)


def _show_until_closed(session: Session | None) -> None:
    """Show the viewer and run its event loop."""
    show_napari(session)  # raises InputError, which says how to install napari, if it is missing
    from napari import run

    run()
