"""Open a session from a panel: on files, on a run, or on the example."""

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lrcore import io, masks
from lrcore.errors import InputError
from lrcore.html_repr import html_table
from lrwidgets.example import make_example
from lrwidgets.gui.confirmation import Confirmation
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.session.loading import PathLike, find_inputs, read_half_maps
from lrwidgets.session.session import Session
from lrwidgets.text.fields import without_unit

FILES = (
    ("particles", "Particles", ".star, .cs or .csg with 3D poses, or a job folder of a consensus refinement"),
    ("mask", "Mask", "soft mask of the part to refine, .mrc; empty: made from the half maps, to be shaped in Mask"),
    (
        "halves",
        "Half maps",
        "two maps separated by a comma, or a volume .csg; empty: reconstructed from particles",
    ),
    ("apix", "Voxel size", "of mask and half maps, in Å per voxel; empty: that in their headers"),
    ("images", "Images folder", "folder that image names are relative to; empty: that of the particles"),
    ("subset", "Particles to use", "number of particles, drawn evenly from both half sets; empty: all"),
    ("threads", "Threads", "number of CPU threads; empty: all cores"),
    ("out", "New run", "folder to write, such as run.zarr; empty: in memory only"),
    ("run", "Existing run", "folder of a run to continue: RUN.zarr"),
)
"""Text fields of the form: name, label and help."""
NUMBERS = ("apix", "subset", "threads")
"""Fields that name no file."""
BACKENDS = ("auto", "cpu", "cuda")
BACKEND = ("Backend", "auto: the GPU if there is one")
RESPLIT = ("New half sets", "split the particles anew, with the seed of the settings; leave the half maps empty then")
"""Label and help of the other two fields, `backend` and `resplit`."""
AUTOMATIC_MASK = "automatic_mask.mrc"
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
    """Ways to open a session. Each passes it to `opened`, on the publisher's thread.

    A session that was opened here is closed when another takes its place, unless somebody else shows it, so that its
    run can be opened elsewhere. While it runs, the first request only asks.
    """

    def __init__(
        self, panel: PanelBase, view: DataView, opened: Callable[[Session], None], example: str | Path = "example"
    ) -> None:
        """example: folder for the example."""
        self._panel, self._view, self._opened, self._example = panel, view, opened, example
        self._own: Session | None = None
        self._shown: Session | None = None
        self._confirmed = Confirmation()

    def show(self, session: Session) -> None:
        """Describe a session that was opened elsewhere."""
        self._shown = session
        self._view.describe(session)

    def load(self, fields: Mapping[str, str]) -> None:
        """Open the files given as text by the names in FILES."""
        self._open("reading …", lambda: load_session(fields), "Load")

    def open_run(self, path: str) -> None:
        """Open a run."""
        self._open("opening …", lambda: open_run(path), "Open run")

    def open_example(self) -> None:
        """Simulate the example, unless it is there already, and open it."""
        self._open("simulating a flexible particle …", lambda: open_example(self._example), "Demo data")

    def _open(self, message: str, make: Callable[[], Session], button: str) -> None:
        if self._shown is not None and self._shown.state.phase != "idle" and not self._confirmed.is_given(button):
            end = "stop it (finished steps are kept)" if self._shown is self._own else "let it go on without a view"
            self._panel.show_message(
                f"a refinement is running: press {button} again to {end} and open other data", "bad"
            )
            return
        self._panel.show_message(message, "neutral")
        self._panel.latest.submit(lambda: with_warnings(make), self._show, "data")

    def _show(self, loaded: tuple[Session, tuple[str, ...]]) -> None:
        session, issued = loaded
        notes = ("loaded", *automatic_mask_note(session), *issued)
        before, self._own, self._shown = self._own, session, session
        self._view.describe(session)
        self._panel.show_message("; ".join(notes), "bad" if issued else "good")
        self._opened(session)
        if before is not None and before is not session and len(before.state_changed) == 0:
            self._panel.slow.submit(before.close, key="close")


def found_rows(session: Session) -> dict[str, str]:
    """Return which files a session was loaded from: label of the field → path, or what takes its place."""
    source = session.source
    if source is None:
        return {}
    folder = source.images or "names in the particles' file"
    halves = ", ".join(source.half_maps) or "none: reconstructed from the particles"
    return {"Particles": source.particles, "Mask": source.mask, "Half maps": halves, "Images": folder}


def automatic_mask_note(session: Session) -> tuple[str, ...]:
    """Return what to say of a mask that was made for want of another; nothing for one that was given."""
    if session.state.tree or session.source is None or not session.source.mask.endswith(AUTOMATIC_MASK):
        return ()
    made = f"{session.source.mask} was made from the half maps"
    return (f"without a mask, {made}: shape it in Mask before the first step",)


def description_html(session: Session) -> str:
    """Return a session and the files that it was loaded from as HTML."""
    rows = found_rows(session)
    return session._repr_html_() + (html_table("Found", rows) if rows else "")


def with_warnings(make: Callable[[], Session]) -> tuple[Session, tuple[str, ...]]:
    """Return a session and the warnings that were issued while it was made, one line each."""
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        session = make()
    return session, tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in issued))


def load_session(fields: Mapping[str, str]) -> Session:
    """Open a session on files, given as text by the names in FILES.

    Without a mask one is made of the half maps. Raises InputError for what is missing or unusable.
    """
    values = {name: text.strip() for name, text in fields.items()}
    if not values["particles"]:
        raise InputError("no particles given: type the path of their .star, .cs or .csg, or of a job folder")
    given = tuple(part.strip() for part in values["halves"].split(",") if part.strip())
    resplit = values.get("resplit") == "True"
    apix, out = _voxel_size(values.get("apix", "")), values["out"] or None
    particles, mask, halves = find_inputs(values["particles"], values["mask"] or None, given, resplit)
    if mask is None:
        mask = write_automatic_mask(halves, apix, out)
    return Session.load(
        particles,
        mask,
        halves,
        images=values["images"] or None,
        apix=apix,
        subset=_count(values.get("subset", ""), "Particles to use"),
        resplit=resplit,
        threads=_count(values.get("threads", ""), "Threads"),
        backend=values.get("backend") or "auto",
        out=out,
    )


def write_automatic_mask(half_maps: PathLike | tuple[PathLike, ...], apix: float | None, out: str | None) -> Path:
    """Write the automatic mask of the mean of two half maps, beside the run or into a temporary folder; return it.

    Raises InputError if there are no half maps, or they cannot be read.
    """
    paths = half_maps if isinstance(half_maps, tuple) else (half_maps,)
    halves = read_half_maps(tuple(map(str, paths)), apix)
    if halves is None:
        raise InputError("no mask and no half maps given: give a mask, or half maps to make one from")
    mean = replace(halves.first, data=0.5 * (halves.first.data + halves.second.data), path=None)
    made = masks.make_mask(mean, masks.MaskRecipe())
    folder = Path(out).absolute().parent if out else Path(tempfile.mkdtemp(prefix="lrwidgets-"))
    target = folder / (f"{Path(out).stem}_{AUTOMATIC_MASK}" if out else AUTOMATIC_MASK)
    if target.exists():
        raise InputError(f"{target}: exists already: give it as the mask, or choose another name for the new run")
    io.write_volume(target, replace(mean, data=made.mask))
    return target


def _count(text: str, label: str) -> int | None:
    """Return a number of something; None for an empty text. Raises InputError for another text than one above 0."""
    if not text:
        return None
    if not text.replace(",", "").isdecimal() or int(text.replace(",", "")) < 1:
        raise InputError(f"{label}: {text} typed: type a whole number above 0, or leave it empty")
    return int(text.replace(",", ""))


def _voxel_size(text: str) -> float | None:
    """Return a voxel size in Å; None for an empty text. Raises InputError for another text than a number above 0."""
    try:
        size = float(without_unit(text, "Å")) if text else None
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
