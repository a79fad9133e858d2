"""The way in: files by their paths, a run to go on with, or data made up for a first look."""

from collections.abc import Callable

from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton

from lrwidgets.gui import file_actions
from lrwidgets.napari_panel.sample_data import make_sample_files
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session

FOLDERS = ("images", "run")
"""Fields that name a folder that is there."""


class DataSection(Section):
    """Asks for data and hands a session to `opened`, on Qt's thread."""

    def __init__(self, opened: Callable[[Session], None]) -> None:
        super().__init__()
        self._opened = opened
        self.fields: dict[str, QLineEdit] = {}
        form = QFormLayout()
        for name, label, tip in file_actions.FILES:
            form.addRow(label, self._field(name, tip))
        self.rows.addLayout(form)
        self.row(
            self.button("data-load", "Load", "read and check these files", self._load),
            self.button("data-open", "Open run", "go on with a run from its last whole step", self._open),
            self.button("data-demo", "Demo data", "simulate a flexible particle, unless it is there", self._demo),
        )
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.rows.addWidget(self.about)
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)

    def describe(self, session: Session) -> None:
        """Say what is loaded."""
        self.about.setText(session._repr_html_())

    def _field(self, name: str, tip: str) -> QHBoxLayout:
        field = QLineEdit()
        field.setObjectName(f"lrw-data-{name}")
        field.setPlaceholderText(tip)
        field.setToolTip(tip)
        self.fields[name] = field
        browse = QPushButton("…")
        browse.setFixedWidth(28)
        browse.setToolTip("choose in the file system")
        browse.clicked.connect(self.catch_errors(lambda *_: self._browse(name)))
        line = QHBoxLayout()
        line.addWidget(field)
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

    def _load(self) -> None:
        words = {name: field.text() for name, field in self.fields.items()}
        self._ask("reading …", lambda: file_actions.load_session(words))

    def _open(self) -> None:
        path = self.fields["run"].text()
        self._ask("opening …", lambda: file_actions.open_run(path))

    def _demo(self) -> None:
        self._ask("simulating a flexible particle …", lambda: file_actions.open_example(make_sample_files().folder))

    def _ask(self, words: str, make: Callable[[], Session]) -> None:
        self.show_message(words, "")
        self.latest.submit(make, self._take, "data")

    def _take(self, session: Session) -> None:
        self.describe(session)
        self.show_message("loaded")
        self._opened(session)
