"""The wheel holds the two packages, whole, at its top; core/ is a folder of the repository and never a package."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lrwidgets


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=600)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_both_packages_and_no_core(wheel: Path, root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"lrwidgets-{lrwidgets.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"lrcore", "lrwidgets", info}
    for base in (root / "core" / "lrcore", root / "lrwidgets"):
        files = [path for suffix in ("py", "pyi", "cu", "cuh", "js", "css") for path in base.rglob(f"*.{suffix}")]
        sources = {path.relative_to(base.parent).as_posix() for path in files}
        assert sources
        assert sources <= names
    assert {
        "lrcore/kernels/local_search/cuda.cu",
        "lrwidgets/jupyter/slices.js",
        "lrwidgets/jupyter/slices.css",
    } <= names
    assert "lrwidgets/napari_panel/napari.yaml" in names
    assert {"lrcore/py.typed", "lrwidgets/py.typed"} <= names


def test_it_names_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    entry = archive.read(f"lrwidgets-{lrwidgets.__version__}.dist-info/entry_points.txt").decode()
    assert "lrwidgets = lrwidgets.cli:main" in entry
    assert "[napari.manifest]\nlrwidgets = lrwidgets.napari_panel:napari.yaml" in entry


def test_it_is_imported_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    """Unpacked, as pip does; the front doors need their stubs beside them."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import lrcore, lrwidgets; print(lrcore.__file__, lrwidgets.Session, lrcore.maps.sharpen)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert run.stdout.startswith(str(tmp_path / "site"))
