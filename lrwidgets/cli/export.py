"""`lrwidgets export`: write a step of a run for other programs."""

from argparse import Namespace

from lrcore.errors import InputError
from lrcore.io.paths import require_new_file
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.export.step_files import FOLDER_FILES, TARGET_NAMES
from lrwidgets.session.session import Session


def export(arguments: Namespace) -> None:
    """Write the files that the options name."""
    targets = {name: getattr(arguments, name) for name in TARGET_NAMES}
    if not any(targets.values()):
        raise InputError("nothing to write: give " + ", ".join("--" + name.replace("_", "-") for name in TARGET_NAMES))
    folders = {} if arguments.overwrite else {name: files for name, files in FOLDER_FILES.items() if targets[name]}
    for name, files in folders.items():
        for file in files:
            require_new_file(targets[name] / file)
    printer = Printer(arguments.json)
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        notes = list[str]()
        for path in session.export(node=node.id, report=notes.append, **targets):
            printer.report_file(path, f"iteration {node.iteration}", node=node.id)
    for note in dict.fromkeys(notes):
        printer.report(note, "note", message=note, node=node.id)
