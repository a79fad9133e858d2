"""The way out: a step as files for other programs."""

from pathlib import Path

import ipywidgets as w

from lrcore.errors import InputError
from lrwidgets.jupyter.base import Panel
from lrwidgets.session import Session

KINDS = (
    ("star", "particles.star for RELION"),
    ("cs", "particles.cs and .csg for CryoSPARC"),
    ("maps", "half maps, map and mask as .mrc"),
    ("netcdf", "all results as netCDF (xarray)"),
)
OFF = ("cs", "netcdf")


class ExportWidget(Panel):
    """Writes the present step of a session into a folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.folder = w.Text("refined", description="folder", tooltip="it is made if it is not there yet")
        self.folder.add_class("lrw-export-folder")
        self.kinds = {
            name: w.Checkbox(name not in OFF, description=words, indent=False).add_class(f"lrw-export-{name}")
            for name, words in KINDS
        }
        self.go = w.Button(description="Export", button_style="primary", tooltip="write the present step")
        self.go.add_class("lrw-export-go").on_click(self.guarded(lambda _: self._ask()))
        self.widget = w.VBox([self.folder, *self.kinds.values(), self.go, self.message]).add_class("lrw-export")

    def _ask(self) -> None:
        text = self.folder.value.strip()
        if not text:
            raise InputError("no folder is given: type one")
        chosen = [name for name, box in self.kinds.items() if box.value]
        self.say("writing …", "inherit")
        self.latest.ask(lambda: written(self.session, Path(text), chosen), self._told, "export")

    def _told(self, paths: list[Path]) -> None:
        self.say(f"wrote {', '.join(map(str, paths))}" if paths else "nothing is chosen, so nothing was written")


def written(session: Session, folder: Path, chosen: list[str]) -> list[Path]:
    """Export what is chosen of KINDS. Raises InputError if something cannot be written, or a source is in the way."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"star": "particles.star", "cs": "particles.cs", "maps": "maps", "netcdf": "results.nc"}
    paths = {name: folder / names[name] if name in chosen else None for name in names}
    return session.export(star=paths["star"], cs=paths["cs"], maps=paths["maps"], netcdf=paths["netcdf"])
