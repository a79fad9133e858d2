"""lrwidgets recenter: files and runs, there and back, and one line for what cannot be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.io.mrc_maps import read_header
from lrcore.results.zarr_store import Store
from lrwidgets.cli._main import main
from tests.fakes import BOX, PIXEL, FakeEngine
from tests.lrwidgets.cli.commands import run_json, run_refused
from tests.lrwidgets.conftest import Files

Out = pytest.CaptureFixture[str]


def with_maps(files: Files) -> list[str]:
    return ["--mask", str(files.mask), "--half-maps", *map(str, files.halves)]


def told(capsys: Out, *argv: object) -> dict[str, object]:
    """The one JSON line that a command prints."""
    (record,) = run_json(capsys, "recenter", *argv)
    return record


def refused(capsys: Out, *argv: object) -> str:
    return run_refused(capsys, "recenter", *argv)[-1]


def test_everything_goes_along_and_comes_back(files: Files, tmp_path: Path, capsys: Out) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    record = told(capsys, files.star, *with_maps(files), "--point", "8, 5, 7 px", "--box", "20", "--out", there)
    assert record["point_px"] == [2, -1, 1]
    assert record["point_A"] == [2 * PIXEL, -PIXEL, PIXEL]
    assert sorted(path.name for path in there.iterdir()) == [
        "half1.mrc",
        "half2.mrc",
        "mask.mrc",
        "particles.mrcs",
        "particles.star",
    ]
    moved = io.read_particles(there / "particles.star")
    assert moved.box == 20
    before, after = io.read_volume(files.mask), io.read_volume(there / "mask.mrc")
    assert after.data[10, 10, 10] == before.data[BOX // 2 + 1, BOX // 2 - 1, BOX // 2 + 2]
    maps = ["--mask", there / "mask.mrc", "--half-maps", there / "half1.mrc", there / "half2.mrc"]
    told(capsys, there / "particles.star", *maps, "--back", "--out", back)
    for name, path in {"mask": files.mask, "half1": files.halves[0], "half2": files.halves[1]}.items():
        first, last = io.read_volume(path), io.read_volume(back / f"{name}.mrc")
        assert np.array_equal(first.data, last.data), name
        assert last.header_origin_A == pytest.approx(first.header_origin_A, abs=1e-4)
    first, last = io.read_particles(files.star), io.read_particles(back / "particles.star")
    assert last.images.stacks[0].samefile(files.stack)
    assert np.array_equal(last.images.index, first.images.index)
    assert np.abs(last.poses.origin_A - first.poses.origin_A).max() < 5e-6
    assert not (back / "particles.mrcs").exists()


def test_the_point_is_typed_as_a_fulcrum_is(files: Files, tmp_path: Path, capsys: Out) -> None:
    """From the corner in px or A; the box centre; or the middle of the mask."""
    points = {
        "20, 12.5, 17.5 A": [2, -1, 1],
        "8, 5, 7 px": [2, -1, 1],
        "box": [0, 0, 0],
        "mask": [0, 0, 0],
    }
    for number, (text, expected) in enumerate(points.items()):
        record = told(capsys, files.star, "--mask", files.mask, "--point", text, "--out", tmp_path / str(number))
        assert record["point_px"] == expected, text


def test_a_run_is_recentred_at_its_poses(files: Files, tmp_path: Path, capsys: Out) -> None:
    run, there, back = tmp_path / "run.zarr", tmp_path / "there", tmp_path / "back"
    assert main(files.refine(run, "--iterations", "2"), engine=FakeEngine()) == 0
    step = Store.open(run, write=False).load(Store.open(run, write=False).node().id)
    told(capsys, run, "--point", "8, 5, 7 px", "--box", "24", "--out", there)
    half = io.read_volume(there / "half1.mrc")
    assert half.data[12, 12, 12] == step.half_maps.first.data[BOX // 2 + 1, BOX // 2 - 1, BOX // 2 + 2]
    told(capsys, there / "particles.star", "--back", "--out", back)
    last = io.read_particles(back / "particles.star")
    assert np.abs(last.poses.origin_A - step.expectation.poses.origin_A).max() < 5e-6
    # A run of recentred particles goes back, too, with its half maps and mask.
    again, home = tmp_path / "again.zarr", tmp_path / "home"
    maps = ["--half-maps", str(there / "half1.mrc"), str(there / "half2.mrc"), "--iterations", "1"]
    argv = ["refine", str(there / "particles.star"), "--mask", str(there / "mask.mrc"), *maps, "--out", str(again)]
    assert main(argv, engine=FakeEngine()) == 0
    told(capsys, again, "--back", "--out", home)
    assert io.read_volume(home / "mask.mrc").box == BOX
    assert np.array_equal(io.read_volume(home / "mask.mrc").data, io.read_volume(files.mask).data)
    assert "leave out --map, --half-maps and --mask" in refused(
        capsys, again, "--mask", files.mask, "--out", tmp_path / "x"
    )


def test_float16_and_contrast_are_kept(files: Files, tmp_path: Path, capsys: Out) -> None:
    import mrcfile

    data = mrcfile.read(files.stack)
    with mrcfile.new(files.stack, overwrite=True) as stack:
        stack.set_data(data.astype(np.float16))
        stack.voxel_size = PIXEL
    particles = io.read_particles(files.star)
    inverted = replace(particles, images=replace(particles.images, sign=-particles.images.sign))
    io.write_particles(files.folder / "p.cs", replace(inverted, source=None), particles.poses)
    told(capsys, files.folder / "p.cs", "--point", "box", "--out", tmp_path / "there")
    assert read_header(tmp_path / "there" / "particles.mrcs").mode == 12
    moved = io.read_particles(tmp_path / "there" / "particles.csg")
    assert set(moved.images.sign.tolist()) == {-1.0}
    whole = np.abs(np.rint(particles.poses.origin_A / PIXEL)).max(axis=1) == 0
    stored = mrcfile.read(tmp_path / "there" / "particles.mrcs")
    assert np.array_equal(stored[whole], data.astype(np.float16)[whole])


def test_what_cannot_be_is_refused(files: Files, tmp_path: Path, capsys: Out) -> None:
    out = tmp_path / "out"
    assert "--point is missing" in refused(capsys, files.star, "--out", out)
    assert "--point 1,2: write mask, box" in refused(capsys, files.star, "--point", "1,2", "--out", out)
    assert "is outside the box of 12 pixels" in refused(capsys, files.star, "--point", "90, 0, 0 px", "--out", out)
    message = refused(capsys, files.star, "--back", "--point", "box", "--out", out)
    assert "leave out --point and --box" in message
    assert "give particles that were recentred" in refused(capsys, files.star, "--back", "--out", out)
    io.write_volume(
        files.folder / "small.mrc", replace(io.read_volume(files.mask), data=np.ones((9, 9, 9), np.float32))
    )
    message = refused(capsys, files.star, "--point", "box", "--map", files.folder / "small.mrc", "--out", out)
    assert "is 9³ but the particles' box is 12" in message
    assert not out.exists()
    told(capsys, files.star, "--point", "box", "--out", out)
    assert "particles.star: exists already" in refused(capsys, files.star, "--point", "box", "--out", out)


def test_a_small_box_is_warned_of(files: Files, tmp_path: Path, capsys: Out) -> None:
    argv = ["recenter", str(files.star), "--mask", str(files.mask), "--box", "8", "--out", str(tmp_path / "there")]
    assert main(argv) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in lines)
    (rings,) = (line for line in lines if "delocalised by the CTF" in line)
    assert "--box 8: holds" in rings
    assert ": use a box of " in rings
    assert any("of the images do not cover the new box" in line for line in lines)
