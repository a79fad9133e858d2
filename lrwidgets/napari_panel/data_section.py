"""Open a session in the dock."""

from collections.abc import Callable

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton

from lrwidgets.gui.data_model import BACKEND, BACKENDS, BUTTONS, FILES, NUMBERS, RESPLIT, DataModel, description_html
from lrwidgets.napari_panel.sample_data import sample_folder
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session

FOLDERS = ("images", "run")
"""Fields that name an existing folder."""


class DataSection(Section):
    """Ask for data and pass a session to `opened`, on Qt's thread."""

    def __init__(self, opened: Callable[[Session], None]) -> None:
        super().__init__()
        self.model = model = DataModel(self, self, opened, sample_folder())
        self.fields: dict[str, QLineEdit] = {}
        form = QFormLayout()
        for name, label, tip in FILES:
            form.addRow(label, self._field(name, tip))
        self.backend, self.resplit = QComboBox(), QCheckBox(RESPLIT[0])
        self.backend.addItems(BACKENDS)
        self.backend.setToolTip(BACKEND[1])
        self.resplit.setToolTip(RESPLIT[1])
        form.addRow(BACKEND[0], self.backend)
        form.addRow("", self.resplit)
        self.rows.addLayout(form)
        self.row(
            self.button("data-load", *BUTTONS["load"], lambda: model.load(self._values())),
            self.button("data-open", *BUTTONS["open"], lambda: model.open_run(self._values()["run"])),
            self.button("data-demo", *BUTTONS["demo"], model.open_example),
        )
        self.rows.addWidget(self.message)
        self.about = self.label("data-about")
        self.rows.addStretch(1)

    def describe(self, session: Session) -> None:
        """Show what is loaded."""
        self.about.setText(description_html(session))

    def _field(self, name: str, tip: str) -> QHBoxLayout:
        field = QLineEdit()
        field.setObjectName(f"lrw-data-{name}")
        field.setPlaceholderText(tip)
        field.setToolTip(tip)
        self.fields[name] = field
        line = QHBoxLayout()
        line.addWidget(field)
        if name in NUMBERS:
            return line
        browse = QPushButton("…")
        browse.setFixedWidth(28)
        browse.setToolTip("choose a file or folder")
        browse.clicked.connect(self.catch_errors(lambda *_: self._browse(name)))
        line.addWidget(browse)
        return line

    def _browse(self, name: str) -> None:
        if name in FOLDERS:
            chosen = [QFileDialog.getExistingDirectory(self)]
        elif name == "out":
            chosen = [QFileDialog.getSaveFileName(self)[0]]
        else:
            chosen = QFileDialog.getOpenFileNames(self)[0]
        if any(chosen):
            self.fields[name].setText(", ".join(chosen))

    def _values(self) -> dict[str, str]:
        typed = {name: field.text() for name, field in self.fields.items()}
        return {**typed, "backend": self.backend.currentText(), "resplit": str(self.resplit.isChecked())}
