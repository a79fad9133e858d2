"""Open a session from a panel: on files, on a run, or on the example."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from lrcore.errors import InputError
from lrwidgets.example import make_example
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.session.session import Session

FILES = (
    ("particles", "Particles", ".star, .cs or .csg with 3D poses, or a job folder of a consensus refinement"),
    ("mask", "Mask", "soft mask of the part to refine, .mrc"),
    (
        "halves",
        "Half maps",
        "two maps separated by a comma, or a volume .csg; empty: reconstructed from particles",
    ),
    ("apix", "Voxel size", "of mask and half maps, in Å per voxel; empty: that in their headers"),
    ("images", "Images folder", "folder that image names are relative to; empty: that of the particles"),
    ("out", "New run", "folder to write, such as run.zarr; empty: in memory only"),
    ("run", "Existing run", "folder of a run to continue: RUN.zarr"),
)
"""Fields of the form: name, label and help."""
REQUIRED = {"particles": "type the path of their .star, .cs or .csg", "mask": "type its path, or make one first"}
"""Fields that may not be empty, and what to do."""
BUTTONS = {
    "load": ("Load", "read and check these files"),
    "open": ("Open run", "continue a run from its last complete step"),
    "demo": ("Demo data", "simulate a flexible particle, unless it is there already, and load it"),
}
"""Label and tooltip of the buttons."""


class DataView(Protocol):
    """View of a `DataModel`."""

    def describe(self, session: Session) -> None:
        """Show what is loaded."""


class DataModel:
    """Ways to open a session. Each passes it to `opened`, on the publisher's thread."""

    def __init__(
        self, panel: PanelBase, view: DataView, opened: Callable[[Session], None], example: str | Path = "example"
    ) -> None:
        """example: folder for the example."""
        self._panel, self._view, self._opened, self._example = panel, view, opened, example

    def load(self, fields: Mapping[str, str]) -> None:
        """Open the files given as text by the names in FILES."""
        self._open("reading …", lambda: load_session(fields))

    def open_run(self, path: str) -> None:
        """Open a run."""
        self._open("opening …", lambda: open_run(path))

    def open_example(self) -> None:
        """Simulate the example, unless it is there already, and open it."""
        self._open("simulating a flexible particle …", lambda: open_example(self._example))

    def _open(self, message: str, make: Callable[[], Session]) -> None:
        self._panel.show_message(message, "neutral")
        self._panel.latest.submit(lambda: with_warnings(make), self._show, "data")

    def _show(self, loaded: tuple[Session, tuple[str, ...]]) -> None:
        session, issued = loaded
        self._view.describe(session)
        self._panel.show_message("; ".join(("loaded", *issued)), "bad" if issued else "good")
        self._opened(session)


def with_warnings(make: Callable[[], Session]) -> tuple[Session, tuple[str, ...]]:
    """Return a session and the warnings that were issued while it was made, one line each."""
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        session = make()
    return session, tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in issued))


def load_session(fields: Mapping[str, str]) -> Session:
    """Open a session on files, given as text by the names in FILES.

    Raises InputError for what is missing or unusable.
    """
    values = {name: text.strip() for name, text in fields.items()}
    is_folder = bool(values["particles"]) and Path(values["particles"]).is_dir()
    for name, remedy in REQUIRED.items():
        if not values[name] and not (name == "mask" and is_folder):
            raise InputError(f"no {name} given: {remedy}")
    halves = tuple(part.strip() for part in values["halves"].split(",") if part.strip())
    images, out = values["images"] or None, values["out"] or None
    apix = _voxel_size(values.get("apix", ""))
    return Session.load(values["particles"], values["mask"] or None, halves, images=images, apix=apix, out=out)


def _voxel_size(text: str) -> float | None:
    """Return a voxel size in Å; None for an empty text. Raises InputError for another text than a number above 0."""
    try:
        size = float(text) if text else None
    except ValueError:
        size = 0.0
    if size is not None and not 0 < size < math.inf:
        raise InputError(f"voxel size {text!r}: type a number of Å above 0, or leave it empty")
    return size


def open_run(path: str) -> Session:
    """Open a session on a run. Raises InputError if none is named, or it cannot be opened."""
    if not path.strip():
        raise InputError("no run is given: type the path of one, RUN.zarr")
    return Session.open(path.strip())


def open_example(folder: str | Path = "example") -> Session:
    """Open a session on the example in a folder, after simulating it if it is not there yet."""
    files = make_example(folder)
    return Session.load(files.particles, files.mask, files.half_maps)
