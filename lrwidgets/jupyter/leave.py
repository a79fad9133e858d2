"""The way out: a step as files for other programs."""

from pathlib import Path

import ipywidgets as w

from lrwidgets import doors
from lrwidgets.jupyter.base import Panel
from lrwidgets.session import Session


class ExportWidget(Panel):
    """Writes the present step of a session into a folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.folder = w.Text("refined", description="folder", tooltip="it is made if it is not there yet")
        self.folder.add_class("lrw-export-folder")
        self.kinds = {
            name: w.Checkbox(name not in doors.OFF, description=words, indent=False).add_class(f"lrw-export-{name}")
            for name, words in doors.KINDS
        }
        self.go = w.Button(description="Export", button_style="primary", tooltip="write the present step")
        self.go.add_class("lrw-export-go").on_click(self.guarded(lambda _: self._ask()))
        self.widget = w.VBox([self.folder, *self.kinds.values(), self.go, self.message]).add_class("lrw-export")

    def _ask(self) -> None:
        folder = self.folder.value
        chosen = [name for name, box in self.kinds.items() if box.value]
        self.say("writing …", "inherit")
        self.latest.ask(lambda: doors.export(self.session, folder, chosen), self._told, "export")

    def _told(self, paths: list[Path]) -> None:
        self.say(f"wrote {', '.join(map(str, paths))}" if paths else "nothing is chosen, so nothing was written")
