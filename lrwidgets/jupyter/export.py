"""Export a step in the notebook."""

import ipywidgets as w

from lrwidgets.gui.export_model import EXPORT_KINDS, EXPORT_TIP, FOLDER, FOLDER_TIP, OFF, ExportModel
from lrwidgets.jupyter.base import Panel
from lrwidgets.session.session import Session


class ExportWidget(Panel):
    """Write the present step of a session into a folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.model = ExportModel(session, self)
        self.folder = w.Text(FOLDER, description="folder", tooltip=FOLDER_TIP).add_class("lrw-export-folder")
        self.kinds = {name: self._checkbox(name, label) for name, label in EXPORT_KINDS}
        self.go = self.button("export-go", "Export", EXPORT_TIP, self._export, "primary")
        self.widget = w.VBox([self.folder, *self.kinds.values(), self.go, self.message]).add_class("lrw-export")

    def _checkbox(self, name: str, label: str) -> w.Checkbox:
        return w.Checkbox(name not in OFF, description=label, indent=False).add_class(f"lrw-export-{name}")

    def _export(self) -> None:
        self.model.export(self.folder.value, [name for name, box in self.kinds.items() if box.value])
