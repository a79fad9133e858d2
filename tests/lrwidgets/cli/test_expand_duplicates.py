"""Commands that make particles from particles, and what is said of them on the way to a refinement."""

from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrwidgets.cli._main import main
from tests.fakes import FakeEngine
from tests.lrwidgets.cli.commands import run_json, run_refused
from tests.lrwidgets.conftest import Files

Out = pytest.CaptureFixture[str]


def told(capsys: Out, *argv: object) -> dict[str, object]:
    """The one JSON line that a command prints."""
    (record,) = run_json(capsys, *argv)
    return record


def refused(capsys: Out, *argv: object) -> str:
    """The one line with which a command refuses."""
    (line,) = run_refused(capsys, *argv)
    return line


def expanded(files: Files, capsys: Out, group: str = "D2") -> Path:
    out = files.folder / "expanded.star"
    told(capsys, "expand", files.star, "--symmetry", group, "--out", out)
    return out


def with_half(star: Path, row: int, value: str) -> None:
    """Change the half set of one row of a STAR file."""
    particles = io.read_particles(star)
    table = particles.source.table.copy()
    table.loc[row, "rlnRandomSubset"] = value
    text = star.read_text().splitlines()
    first = next(i for i, line in enumerate(text) if "@" in line)
    text[first + row] = "\t".join(table.iloc[row])
    star.write_text("\n".join(text) + "\n")


def test_expand_writes_every_copy(files: Files, capsys: Out) -> None:
    out = files.folder / "e.star"
    record = told(capsys, "expand", files.star, "--symmetry", "d2", "--out", out)
    assert (record["particles"], record["copies"]) == (10, 4)
    assert len(io.read_particles(out)) == 40
    assert "is expanded already, by D2" in refused(
        capsys, "expand", out, "--symmetry", "D2", "--out", files.folder / "x.star"
    )
    message = refused(capsys, "expand", files.star, "--symmetry", "D2H", "--out", files.folder / "x.star")
    assert "symmetry D2H: write Cn, Dn, T, O, I or I1 to I4" in message


def test_marks_cross_from_star_to_cryosparc_and_back(files: Files, capsys: Out) -> None:
    star, cs = expanded(files, capsys, "C3"), files.folder / "e.cs"
    particles = io.read_particles(star)
    io.write_particles(cs, particles, particles.poses)
    back = io.read_particles(cs.with_suffix(".csg"))
    assert back.source.table["lrw/SymmetryCopy"].tolist() == [1, 2, 3] * 10
    io.write_particles(files.folder / "f.star", back, back.poses)
    last = io.read_particles(files.folder / "f.star").source.table
    for name in ("lrwSymmetryGroup", "lrwSymmetryCopy", "lrwSymmetryParent"):
        assert last[name].tolist() == particles.source.table[name].tolist(), name


def test_a_refinement_refuses_copies_in_both_half_sets(files: Files, tmp_path: Path, capsys: Out) -> None:
    star = expanded(files, capsys)
    argv = ["refine", str(star), "--mask", str(files.mask), "--out"]
    assert main([*argv, str(tmp_path / "one.zarr")], engine=FakeEngine()) == 0
    with_half(star, 1, "2")
    capsys.readouterr()
    assert main([*argv, str(tmp_path / "two.zarr")], engine=FakeEngine()) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert (
        f"{star}: rows 1 and 2 list the same image 1@s.mrcs in different half sets (1 such images in all)" in error[0]
    )
    assert told(capsys, "info", star)["images_in_both_half_sets"] == 1


def test_duplicates_are_removed_and_counted(files: Files, capsys: Out) -> None:
    particles = io.read_particles(files.star)
    twice, out = files.folder / "twice.star", files.folder / "once.star"
    text = files.star.read_text().rstrip("\n").splitlines()
    twice.write_text("\n".join([*text, *text[-3:]]) + "\n")
    assert told(capsys, "info", twice)["rows_that_repeat_an_image"] == 3
    record = told(capsys, "duplicates", twice, "--out", out)
    assert (record["particles"], record["same_image"], record["same_place"]) == (10, 3, 0)
    assert np.array_equal(io.read_particles(out).images.index, particles.images.index)
    message = refused(capsys, "duplicates", twice, "--out", files.folder / "x.star", "--distance", "30")
    assert "has no micrographs and coordinates: leave out --distance" in message
    message = refused(capsys, "duplicates", twice, "--out", files.folder / "x.star", "--distance", "0")
    assert "give a length in A above 0" in message


def test_duplicates_by_place(files: Files, capsys: Out) -> None:
    particles = io.read_particles(files.star)
    source = particles.source
    source.table["rlnCoordinateX"] = [str(100 * (i % 5)) for i in range(10)]
    source.table["rlnCoordinateY"] = "50"
    io.write_particles(files.folder / "c.star", particles, particles.poses)
    out = files.folder / "o.star"
    # Origins differ by Å; places of a pair are within 30 Å, and of two pairs 250 Å apart.
    record = told(capsys, "duplicates", files.folder / "c.star", "--out", out, "--distance", "30")
    assert (record["particles"], record["same_place"]) == (5, 5)
    facts = told(capsys, "info", files.folder / "c.star")
    assert facts["places_in_both_half_sets_20A"] == 5
    assert told(capsys, "info", out)["places_in_both_half_sets_20A"] == 0


def test_info_tells_of_directions(files: Files, capsys: Out) -> None:
    facts = told(capsys, "info", files.star)
    assert 0 < facts["views"]["covered"] <= 0.04
    assert facts["images_in_both_half_sets"] == 0
    assert main(["info", str(files.star)]) == 0
    shown = capsys.readouterr().out
    assert "views_cover" in shown
    assert "uniform views: 4%" in shown
    assert "\nviews  " not in shown
