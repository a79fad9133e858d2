"""Expanded particles in files: their marks and every other column survive STAR and .cs."""

from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.io import read_particles, write_particles
from lrcore.particles.duplicates import image_numbers
from lrcore.particles.symmetry_expansion import expand_symmetry


def test_marks_survive_a_star_file(make, tmp_path: Path) -> None:
    make.stack()
    out = expand_symmetry(read_particles(make.star()), "D2")
    write_particles(tmp_path / "expanded.star", out, out.poses)
    back = read_particles(tmp_path / "expanded.star")
    assert len(back) == 4 * make.count
    assert np.allclose(back.poses.rotation, out.poses.rotation, atol=1e-7)
    assert np.array_equal(image_numbers(back), image_numbers(out))
    assert np.array_equal(back.half, out.half)
    assert len(set(back.uid.tolist())) == len(back)
    source = back.source.table
    assert source["lrwSymmetryCopy"].tolist() == ["1", "2", "3", "4"] * make.count
    assert set(source["lrwSymmetryGroup"]) == {"D2"}
    assert source["lrwSymmetryParent"].tolist() == [str(uid) for uid in np.repeat(out.uid[::4], 4)]
    assert source["someUnknownColumn"].tolist() == [f"keep-{i}" for i in range(make.count) for _ in range(4)]
    with pytest.raises(InputError, match="is expanded already, by D2"):
        expand_symmetry(back, "D2")
    one_copy = back.select(np.arange(0, len(back), 4))
    with pytest.raises(InputError, match="is expanded already, by D2"):
        expand_symmetry(one_copy, "D2")


def test_marks_survive_cryosparc_files(make, tmp_path: Path) -> None:
    make.stack()
    plain = read_particles(make.star())
    write_particles(tmp_path / "plain.cs", plain, plain.poses)
    out = expand_symmetry(read_particles(tmp_path / "plain.cs"), "C3")
    write_particles(tmp_path / "expanded.cs", out, out.poses)
    back = read_particles(tmp_path / "expanded.csg")
    assert np.array_equal(back.uid, out.uid)
    assert np.allclose(back.poses.rotation, out.poses.rotation, atol=1e-5)
    table = back.source.table
    assert np.array_equal(table["lrw/SymmetryCopy"], np.tile([1, 2, 3], make.count))
    assert np.array_equal(table["lrw/SymmetryParent"], np.repeat(out.uid[::3], 3))
    assert set(table["lrw/SymmetryGroup"].tolist()) == {b"C3"}
    with pytest.raises(InputError, match="is expanded already, by C3"):
        expand_symmetry(back, "C3")
