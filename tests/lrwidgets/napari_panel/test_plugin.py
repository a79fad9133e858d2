"""The plugin as napari finds it: a valid manifest, whose commands are there and do what they say."""

import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from npe2 import DynamicPlugin, PluginManager, PluginManifest
from npe2.io_utils import _read

from lrwidgets.napari_panel.reader import MAPS, PACKED

MANIFEST = "lrwidgets/napari_panel/napari.yaml"


@pytest.fixture
def manifest(root: Path) -> PluginManifest:
    return PluginManifest.from_file(root / MANIFEST)


def test_the_manifest_is_valid(root: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "npe2", "validate", "--imports", str(root / MANIFEST)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "valid" in run.stdout


def test_every_kind_of_file_that_is_read_is_in_the_manifest(manifest: PluginManifest) -> None:
    (reader,) = manifest.contributions.readers or ()
    packed = [f"*{kind}{how}" for kind in MAPS for how in ("", *PACKED)]
    assert {*packed, "*.mrcs", "*.star", "*.cs", "*.csg", "*.zarr"} == set(reader.filename_patterns)


def test_it_is_found_where_it_is_installed() -> None:
    found = PluginManager()
    found.discover()
    assert "lrwidgets" in found
    assert found.get_manifest("lrwidgets").display_name == "Cryo-EM local refinement"


def test_its_reader_and_writer_are_used(manifest: PluginManifest, tmp_path: Path) -> None:
    """A plugin of the same contributions, registered for this test alone."""
    manager = PluginManager()
    with DynamicPlugin("lrwidgets", plugin_manager=manager, manifest=manifest):
        manager.activate("lrwidgets")
        data = np.random.default_rng(1).normal(size=(6, 6, 6)).astype(np.float32)
        with mrcfile.new(tmp_path / "a.mrc", data) as file:
            file.voxel_size = 3.0
        ((found, arguments, kind),) = _read(
            [str(tmp_path / "a.mrc")], stack=False, plugin_name="lrwidgets", _pm=manager
        )
        assert kind == "image"
        assert np.array_equal(found, data)
        writer, target = manager.get_writer(str(tmp_path / "b.mrc"), ["image"], "lrwidgets")
        assert writer is not None
        (path,) = writer.exec(args=(target, found, arguments), _registry=manager.commands)
        assert Path(path).name == "b.mrc"
        with mrcfile.open(path) as file:
            assert np.array_equal(file.data, data)


def test_the_sample_is_the_demo(manifest: PluginManifest) -> None:
    from lrwidgets.napari_panel.sample_data import sample

    names = [(arguments["name"], kind) for _, arguments, kind in sample()]
    assert names == [("consensus map", "image"), ("mask", "image"), ("fulcrum", "points")]
    assert manifest.contributions.sample_data
    assert manifest.contributions.widgets


def test_the_command_opens_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lrwidgets.cli import napari
    from lrwidgets.cli._main import main
    from lrwidgets.session.session import Session

    opened: list[Session | None] = []
    monkeypatch.setattr(napari, "_show_until_closed", opened.append)
    assert main(["napari"]) == 0
    assert opened == [None]
    assert main(["napari", str(tmp_path / "no.zarr")]) == 2
    assert len(opened) == 1


def test_without_napari_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from lrcore.errors import InputError
    from lrwidgets.napari_panel import show

    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(InputError, match="pip install 'lrwidgets\\[napari-qt\\]'"):
        show.show_napari()
