"""Every notebook runs from a fresh kernel, in its own folder; and none is stored with what a run left in it."""

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from lrwidgets.example import Example, make_example

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
CELL_S = 900
"""No cell takes so long, even on a busy machine."""
SLOW_MACHINE = re.compile(r"(?m)^[-\d]+ [:,\d]+ - distributed\.(nanny|core|utils_perf) - (INFO|WARNING) - .*\n?")
"""Lines of Dask that a busy machine causes: a worker that ends late, an event loop that had to wait."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The example, with fewer particles."""
    return make_example(tmp_path_factory.mktemp("notebooks") / "example", particles=200)


@pytest.fixture(scope="module")
def more_files(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """So many that a motion can be learned from them."""
    return make_example(tmp_path_factory.mktemp("more") / "example", particles=480)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: Example = request.getfixturevalue("more_files" if name.startswith("06") else "files")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    shutil.copytree(files.folder, tmp_path / "example")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "core")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(ROOT / "notebooks" / name, 4)
    nbclient.NotebookClient(notebook, timeout=CELL_S, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.cell_type == "code" and cell.outputs for cell in notebook.cells)
    noise = [o["text"] for cell in notebook.cells for o in cell.get("outputs", []) if o.get("name") == "stderr"]
    assert SLOW_MACHINE.sub("", "".join(noise)) == ""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_stored_clean(name: str) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / name, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.cells[0].source.startswith("# ")


def test_there_are_seven() -> None:
    assert [name[:2] for name in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07"]
