"""Choose the order of the tests and which stay in one process, so that all processes end at about the same time.

By default the tests of a file stay together, because they share fixtures. Tests that measure time come first: they
wait until nothing else runs, and other processes wait for them, which costs least where all begin with such tests.
Then the folders follow whose files take longest, so that no process begins a long file when the others are done.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
LONGEST_FIRST = ("lrwidgets/jupyter", "validation", "lrwidgets/cli", "lrwidgets/session", "lrcore/io")
"""Folders whose files take minutes."""
INDEPENDENT = (
    "docs/test_readme.py",
    "lrcore/io/test_relion_aberrations.py",
    "lrwidgets/jupyter/test_notebooks.py",
    "lrwidgets/session/test_killed_runs.py",
)
"""Files of minutes whose tests share nothing that takes long: each test is handed out on its own."""
SHARED_SERVER = ("lrwidgets/jupyter/test_harness.py", "lrwidgets/jupyter/test_studio_in_lab.py")
"""Files whose tests use JupyterLab: those with one setting of its server stay together, so that it starts once."""
SERVER_SETTINGS = ("perCommTarget", "disabled")


def sort_key(item: pytest.Item) -> tuple[bool, int]:
    """Return the rank of a test in the order of a run."""
    folder = item.path.parent.relative_to(TESTS).as_posix()
    place = LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
    return item.get_closest_marker("alone") is None, place


def unit_of(nodeid: str) -> str:
    """Return the name of the unit that a test is handed out with."""
    path, _, name = nodeid.partition("::")
    file = path.removeprefix("tests/")
    if file in INDEPENDENT:
        return nodeid
    if file in SHARED_SERVER:
        return next((f"lab-{setting}" for setting in SERVER_SETTINGS if setting in name), path)
    return path
