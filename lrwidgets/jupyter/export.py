"""The way out: a step as files for other programs."""

from pathlib import Path

import ipywidgets as w

from lrwidgets.gui import file_actions
from lrwidgets.jupyter.base import Panel
from lrwidgets.session.session import Session


class ExportWidget(Panel):
    """Writes the present step of a session into a folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.folder = w.Text("refined", description="folder", tooltip="it is made if it is not there yet")
        self.folder.add_class("lrw-export-folder")
        self.kinds = {
            name: w.Checkbox(name not in file_actions.OFF, description=words, indent=False).add_class(
                f"lrw-export-{name}"
            )
            for name, words in file_actions.EXPORT_KINDS
        }
        self.go = w.Button(description="Export", button_style="primary", tooltip="write the present step")
        self.go.add_class("lrw-export-go").on_click(self.catch_errors(lambda _: self._ask()))
        self.widget = w.VBox([self.folder, *self.kinds.values(), self.go, self.message]).add_class("lrw-export")

    def _ask(self) -> None:
        folder = self.folder.value
        chosen = [name for name, box in self.kinds.items() if box.value]
        self.show_message("writing …", "inherit")
        self.latest.submit(lambda: file_actions.export_step(self.session, folder, chosen), self._show_written, "export")

    def _show_written(self, paths: list[Path]) -> None:
        self.show_message(
            f"wrote {', '.join(map(str, paths))}" if paths else "nothing is chosen, so nothing was written"
        )
