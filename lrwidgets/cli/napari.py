"""`lrwidgets napari`: open the napari viewer with the panel."""

from argparse import Namespace
from typing import Any

from lrwidgets.napari_panel.show import show_napari
from lrwidgets.session.session import Session


def napari(arguments: Namespace, **_: Any) -> None:
    """Open the viewer on a run, or on nothing, and stay until it is closed."""
    if arguments.run is None:
        _stay(None)
        return
    with Session.open(arguments.run, write=not arguments.read_only) as session:
        _stay(session)


def _stay(session: Session | None) -> None:
    show_napari(session)
    from napari import run

    run()
