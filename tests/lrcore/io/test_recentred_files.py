"""Recentred particles in files: every column follows or stays, and the way back leads to the same table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.imaging.rotations import rotation_angle_deg
from lrcore.io import read_particles, write_particles
from lrcore.io.cs_table import with_columns
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import StackReader
from lrcore.io.star_table import read_source
from lrcore.particles.recentring import COLUMNS, Recentring, recentre_images, recentre_particles, undo_recentring
from lrcore.records import Particles

FRAME = Recentring((3, -2, 4), 20, 16, 1.5)


def moved(particles: Particles, folder: Path, suffix: str = ".star") -> Particles:
    """Recentred, written to a folder and read again."""
    folder.mkdir()
    table, stack = folder / f"particles{suffix}", folder / "particles.mrcs"
    out, cut = recentre_particles(particles, FRAME, table, stack)
    write_image_stack(stack, len(out), FRAME.box, FRAME.pixel_size_A, recentre_images(particles, FRAME, cut))
    write_particles(table, out, out.poses)
    back = read_particles(table if suffix == ".star" else table.with_suffix(".csg"))
    assert rotation_angle_deg(back.poses.rotation, out.poses.rotation).max() < 1e-4
    assert np.abs(back.poses.origin_A - out.poses.origin_A).max() < 1e-5
    return back


def images_of(particles: Particles) -> np.ndarray:
    with StackReader(particles.images, particles.box) as reader:
        return reader.read(np.arange(len(particles)))


def test_a_star_file_goes_there_and_back(make, tmp_path: Path) -> None:
    make.stack()
    coordinates = {"rlnCoordinateX": [f"{100 + i}.5" for i in range(24)], "rlnCoordinateY": ["70"] * 24}
    pixel = {"rlnMicrographPixelSize": [0.75, 0.75]}
    star = make.star(optics=make.optics() | pixel, **coordinates)
    before = read_particles(star)
    there = moved(before, tmp_path / "there")
    assert there.box == 20
    assert {group.box for group in there.optics} == {20}
    cut = np.stack([there.source.table[f"lrwFrameShift{axis}"].astype(int) for axis in "XY"], axis=1)
    coordinate = there.source.table["rlnCoordinateX"].astype(float)
    assert np.allclose(coordinate, 100.5 + np.arange(24) + 2 * cut[:, 0])  # pixels of 0.75 Å, not 1.5
    assert np.allclose(there.source.table["lrwFrameOriginXAngst"].astype(float), before.poses.origin_A[:, 0])
    assert there.source.table["someUnknownColumn"].tolist() == [f"keep-{i}" for i in range(24)]
    (tmp_path / "back").mkdir()
    back = undo_recentring(there, tmp_path / "back" / "particles.star", None)
    write_particles(back.path, back, back.poses)
    again = read_particles(back.path)
    assert np.array_equal(images_of(again), images_of(before))
    assert rotation_angle_deg(again.poses.rotation, before.poses.rotation).max() < 1e-4
    assert np.abs(again.poses.origin_A - before.poses.origin_A).max() < 5e-6
    first, last = (read_source(path) for path in (star, back.path))
    assert list(first.table.columns) == list(last.table.columns)
    changed = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]
    for name in set(first.table.columns) - set(changed) - set(coordinates):
        assert first.table[name].tolist() == last.table[name].tolist(), name
    for name in coordinates:
        assert np.allclose(first.table[name].astype(float), last.table[name].astype(float)), name
    assert first.blocks["optics"].equals(last.blocks["optics"])


def test_new_poses_are_brought_back(make, tmp_path: Path) -> None:
    """A turn about the new centre and a shift of d pixels there are the same turn about f and the same shift here."""
    make.stack()
    before = read_particles(make.star())
    there = moved(before, tmp_path / "there")
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    shifted = there.poses.origin_A + [3.0, -1.5]
    refined = replace(there, poses=replace(there.poses, rotation=there.poses.rotation @ turn, origin_A=shifted))
    back = undo_recentring(refined, tmp_path / "back.star", None)
    lever = (back.poses.rotation - before.poses.rotation) @ FRAME.point_A
    assert np.allclose(back.poses.rotation, before.poses.rotation @ turn, atol=1e-6)
    expected = before.poses.origin_A + lever[:, :2] + [3.0, -1.5]
    assert np.abs(back.poses.origin_A - expected).max() < 1e-5


def test_cryosparc_files_go_there_and_back(make, tmp_path: Path) -> None:
    make.stack()
    plain = read_particles(make.star())
    write_particles(make.folder / "J1.cs", plain, plain.poses)
    before = read_particles(make.folder / "J1.csg")
    there = moved(before, tmp_path / "there", ".cs")
    assert set(there.source.table["blob/shape"].ravel().tolist()) == {20}
    assert there.source.table["blob/idx"].tolist() == list(range(24))
    assert np.array_equal(there.uid, before.uid)
    (tmp_path / "back").mkdir()
    back = undo_recentring(there, tmp_path / "back" / "J2.cs", None)
    write_particles(back.path, back, back.poses)
    again = read_particles(back.path)
    assert not any(name.startswith("lrw/") for name in again.source.fields)
    assert np.array_equal(images_of(again), images_of(before))
    assert np.abs(again.poses.origin_A - before.poses.origin_A).max() < 1e-5
    for name in set(before.source.fields) - {"blob/path", "alignments3D/pose", "alignments3D/shift"}:
        assert np.array_equal(again.source.table[name], before.source.table[name]), name


def test_coordinates_of_cryosparc_follow(make, tmp_path: Path) -> None:
    """center_y_frac counts from the bottom."""
    make.stack()
    plain = read_particles(make.star())
    path = make.folder / "J1.cs"
    n = len(plain)
    write_particles(path, plain, plain.poses)
    table = np.load(path)
    fields = {
        "location/micrograph_path": np.full(n, b"m.mrc"),
        "location/micrograph_shape": np.tile(np.array([1000, 2000], np.uint32), (n, 1)),
        "location/micrograph_psize_A": np.full(n, 0.75, np.float32),
        "location/center_x_frac": np.full(n, 0.5),
        "location/center_y_frac": np.full(n, 0.25),
    }
    with path.open("wb") as file:
        np.save(file, with_columns(table, fields))
    there = moved(read_particles(path), tmp_path / "there", ".cs")
    cut = np.stack([there.source.table[f"lrw/FrameShift{axis}"] for axis in "XY"], axis=1)
    found = read_particles(tmp_path / "there" / "particles.cs").source.table
    assert np.allclose(found["location/center_x_frac"], 0.5 + 2 * cut[:, 0] / 2000)
    assert np.allclose(found["location/center_y_frac"], 0.25 - 2 * cut[:, 1] / 1000)


def test_there_is_one_way_there_and_one_back(make, tmp_path: Path) -> None:
    make.stack()
    before = read_particles(make.star())
    with pytest.raises(InputError, match="give particles that were recentred"):
        undo_recentring(before, tmp_path / "p.star", None)
    there = moved(before, tmp_path / "there")
    with pytest.raises(InputError, match="is recentred already: undo that first"):
        recentre_particles(there, Recentring((0, 0, 0), 16, 20, 1.5), tmp_path / "p.star", tmp_path / "p.mrcs")
    (make.folder / "stacks" / "particles.mrcs").unlink()
    with pytest.raises(InputError, match=r"row 1: lrwFrameImage: stack .*particles\.mrcs does not exist"):
        undo_recentring(there, tmp_path / "back.star", None)
    assert all(name in there.source.table for name in COLUMNS)


def test_particles_of_two_points_have_no_one_way_back(make, tmp_path: Path) -> None:
    make.stack()
    there = moved(read_particles(make.star()), tmp_path / "there")
    there.source.table.loc[3, "lrwFramePointZAngst"] = "9.0"
    with pytest.raises(InputError, match="particles recentred to several points or boxes"):
        undo_recentring(there, tmp_path / "back.star", None)
