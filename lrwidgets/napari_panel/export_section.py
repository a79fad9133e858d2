"""The way out: the present step as files for other programs."""

from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QLineEdit

from lrwidgets.gui import file_actions
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session


class ExportSection(Section):
    """Writes the present step of a session into a folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.folder = QLineEdit("refined")
        self.folder.setObjectName("lrw-export-folder")
        self.folder.setToolTip("folder to write; it is made if it is not there yet")
        self.rows.addWidget(self.folder)
        self.kinds: dict[str, QCheckBox] = {}
        for name, words in file_actions.EXPORT_KINDS:
            box = QCheckBox(words)
            box.setChecked(name not in file_actions.OFF)
            self.kinds[name] = box
            self.rows.addWidget(box)
        self.rows.addWidget(self.button("export-go", "Export", "write the present step", self._ask))
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)

    def _ask(self) -> None:
        folder, chosen = self.folder.text(), [name for name, box in self.kinds.items() if box.isChecked()]
        self.show_message("writing …", "")
        self.latest.submit(lambda: file_actions.export_step(self.session, folder, chosen), self._show_written, "export")

    def _show_written(self, paths: list[Path]) -> None:
        self.show_message(
            f"wrote {', '.join(map(str, paths))}" if paths else "nothing is chosen, so nothing was written"
        )
