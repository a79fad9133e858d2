"""Export a step in the dock."""

from qtpy.QtWidgets import QCheckBox, QFileDialog, QLineEdit

from lrwidgets.gui.export_model import EXPORT_KINDS, EXPORT_TIP, FOLDER, FOLDER_TIP, OFF, ExportModel
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session


class ExportSection(Section):
    """Write the present step of a session into a folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.model = ExportModel(session, self)
        self.folder = QLineEdit(FOLDER)
        self.folder.setObjectName("lrw-export-folder")
        self.folder.setToolTip(FOLDER_TIP)
        browse = self.button("export-browse", "…", "choose a folder", self._browse)
        browse.setFixedWidth(28)
        self.row(self.folder, browse)
        self.kinds = {name: self._checkbox(name, label) for name, label in EXPORT_KINDS}
        self.rows.addWidget(self.button("export-go", "Export", EXPORT_TIP, self._export))
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)

    def _checkbox(self, name: str, label: str) -> QCheckBox:
        box = QCheckBox(label)
        box.setChecked(name not in OFF)
        self.rows.addWidget(box)
        return box

    def _browse(self) -> None:
        if chosen := QFileDialog.getExistingDirectory(self):
            self.folder.setText(chosen)

    def _export(self) -> None:
        self.model.export(self.folder.text(), [name for name, box in self.kinds.items() if box.isChecked()])
