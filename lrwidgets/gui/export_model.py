"""Export the present step of a session from a panel."""

from collections.abc import Callable, Iterable
from pathlib import Path

from lrcore.errors import InputError
from lrwidgets.export.step_files import ExportTargets
from lrwidgets.gui.confirmation import Confirmation, existing_targets, replace_question
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.session.session import Session

EXPORT_KINDS = (
    ("star", "particles.star for RELION"),
    ("cs", "particles.cs and .csg for CryoSPARC"),
    ("maps", "half maps, maps and mask as .mrc"),
    ("deposit", "half maps, sharpened map, mask, FSC and numbers for EMDB"),
    ("chimerax", "scene for ChimeraX with fulcrum and motion"),
    ("fsc_xml", "fsc.xml for EMDB"),
    ("fsc_star", "postprocess.star with the FSC for RELION"),
    ("netcdf", "all results as netCDF (xarray)"),
)
"""What can be exported: name and label."""
EXPORT_FILE_NAMES = {
    "star": "particles.star",
    "cs": "particles.cs",
    "maps": "maps",
    "deposit": "deposit",
    "chimerax": "chimerax",
    "fsc_xml": "fsc.xml",
    "fsc_star": "postprocess.star",
    "netcdf": "results.nc",
}
"""Name of the file or folder by kind."""
OFF = ("cs", "deposit", "chimerax", "fsc_xml", "fsc_star", "netcdf")
"""Kinds that are not chosen at first."""
FOLDER = "refined"
FOLDER_TIP = "folder to write; it is made if it does not exist"
EXPORT_TIP = "write the present step"


class ExportModel:
    """Write the present step of a session into a folder."""

    def __init__(self, session: Session, panel: PanelBase) -> None:
        self.session = session
        self._panel = panel
        self._confirmed = Confirmation()

    def export(self, folder: str, chosen: list[str]) -> None:
        """Write the chosen kinds, in place of others only on a second request; the message line shows the paths."""
        existing = existing_targets(_targets(folder, chosen).values()) if folder.strip() else ()
        if not self._confirmed.may_replace(existing, (folder.strip(), *chosen)):
            self._panel.show_message(replace_question(existing, "Export"), "bad")
            return
        self._panel.show_message("writing …", "neutral")
        notes = list[str]()

        def show(paths: list[Path]) -> None:
            self._show_written(paths, dict.fromkeys(notes))

        self._panel.latest.submit(lambda: export_step(self.session, folder, chosen, notes.append), show, "export")

    def _show_written(self, paths: list[Path], notes: Iterable[str]) -> None:
        written = "; ".join([f"wrote {', '.join(map(str, paths))}", *notes])
        self._panel.show_message(written if paths else "nothing written: choose at least one kind of file")


def export_step(
    session: Session, folder: str, chosen: list[str], report: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Export the chosen kinds into a folder, which is made if it does not exist; return the paths written.

    report: called with a sentence about what was written, such as the B-factor of the sharpened map.
    Raises InputError if no folder is given, something cannot be written, or a source is in the way.
    """
    if not folder.strip():
        raise InputError("no folder is given: type one")
    targets: ExportTargets = {}
    targets.update(_targets(folder, chosen))  # type: ignore[typeddict-item]
    return session.export(report=report, **targets)


def _targets(folder: str, chosen: list[str]) -> dict[str, Path]:
    """Return the file or folder of each chosen kind."""
    return {name: Path(folder.strip()) / EXPORT_FILE_NAMES[name] for name in chosen}
