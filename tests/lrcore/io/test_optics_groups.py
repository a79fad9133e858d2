"""Pixel sizes that are equal for all purposes, groups of others, and files of another type."""

import re
import shlex
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.ctf import particle_ctf
from lrcore.io import star_table
from lrcore.io.cs_table import with_columns
from lrcore.records import Particles
from lrwidgets.cli._main import main


def optics(make, *, names: tuple[str, str] = ("first", "second"), **change: list[object]) -> dict[str, list[object]]:
    return make.optics() | {"rlnOpticsGroupName": list(names)} | change


def as_cs(make, path: Path, **change: object) -> Path:
    """The particles of a STAR file as .cs, in a folder of their own, with fields replaced."""
    out = make.folder / "cs" / "J7.cs"
    out.parent.mkdir(exist_ok=True)
    assert main(["convert", str(path), str(out)]) == 0
    table = np.load(out)
    names = [name for name in table.dtype.names if not name.startswith("star")]
    columns = {name.replace("__", "/"): value for name, value in change.items()}
    with out.open("wb") as file:
        np.save(file, with_columns(table[names].copy(), columns))
    out.with_suffix(".csg").unlink()
    return out


# Equal within the tolerance


@pytest.mark.parametrize("other", ["1.5", "1.50000012", "1.500300", "1.4990"])
def test_pixel_sizes_that_differ_in_their_last_digits_are_one(make, other: str) -> None:
    make.stack()
    path = make.star(optics=optics(make, rlnImagePixelSize=[1.5, other]))
    psize = np.where(np.arange(make.count) % 2, np.float32(other), np.float32(1.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (io.read_particles(path), io.read_particles(as_cs(make, path, blob__psize_A=psize))):
            assert found.pixel_size_A == 1.5
            assert all(group.mag_matrix == (1.0, 0.0, 0.0, 1.0) for group in found.optics)


@pytest.mark.parametrize("other", [1.509, 1.491])
def test_within_relions_tolerance_the_difference_becomes_a_magnification(make, other: float) -> None:
    """The CTF is that of the group's own pixel size, and origins in pixels are in its own pixels."""
    make.stack()
    path = make.star(optics=optics(make, rlnImagePixelSize=[1.5, other]))
    with pytest.warns(UserWarning, match=rf"differ by 0\.6% \(first: 1\.5, second: {other}\): .* as a magnification"):
        both = io.read_particles(path)
    assert [group.pixel_size_A for group in both.optics] == [1.5, 1.5]
    assert main(["select", str(path), "--optics-group", "second", "--out", str(make.folder / "2.star")]) == 0
    alone = io.read_particles(make.folder / "2.star")
    assert alone.pixel_size_A == other
    rows = np.nonzero(both.group == 1)[0]
    np.testing.assert_allclose(particle_ctf(both, rows), particle_ctf(alone, range(len(alone))), atol=1e-5)
    text = make.old_star().read_text().splitlines()
    scaled = [line.replace(" 10000.0 ", f" {1.5 / other * 1e4} ", line.count(" 200 ")) for line in text]
    (make.folder / "old.star").write_text("\n".join(scaled) + "\n")
    with pytest.warns(UserWarning, match="differ by"):
        old = io.read_particles(make.folder / "old.star")
    factor = np.where(both.group == 1, other / 1.5, 1.0)
    np.testing.assert_allclose(old.poses.origin_A, both.poses.origin_A * factor[:, None], rtol=1e-6)


def test_small_pixels_are_held_to_one_percent(make) -> None:
    make.stack(voxel=0.5)
    path = make.star(optics=optics(make, rlnImagePixelSize=[0.5, 0.509]))
    with pytest.raises(InputError, match=r"several pixel sizes in one file \(first: 0\.5, second: 0\.509\)"):
        io.read_particles(path)


# One group out of many


def command_in(said: str) -> list[str]:
    """The command that a message names, without the name of the program and of the file to write."""
    command = said.partition("(lrwidgets ")[2].partition(")")[0]
    return shlex.split(command)[:-1]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        io.read_particles(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file_type", "out"),
    [("star", "out.star"), ("star", "out.cs"), ("cs", "out.cs"), ("cs", "out.star"), ("old star", "out.star")],
)
def test_the_command_in_the_message_takes_out_a_group_that_can_be_refined(make, file_type: str, out: str) -> None:
    make.stack()
    path = make.star(optics=optics(make, names=("my'group", "b"), rlnImagePixelSize=[1.5, 1.6]))
    if file_type == "old star":
        text = make.old_star().read_text().splitlines()
        path.write_text("\n".join(line.replace(" 10000.0 ", " 9000 ", line.count(" 200 ")) for line in text) + "\n")
    elif file_type == "cs":
        path = as_cs(make, path)
    said = refusal(path)
    assert "several pixel sizes in one file" in said
    assert main([*command_in(said), str(make.folder / out)]) == 0
    found = io.read_particles(make.folder / out)
    assert (len(found), found.pixel_size_A, len(found.optics)) == (12, 1.5, 1)
    rows = np.arange(0, make.count, 2)
    np.testing.assert_array_equal(found.images.index, rows)
    np.testing.assert_allclose(found.defocus_A[:, 0], np.array(make.columns()["rlnDefocusU"])[rows], rtol=1e-6)


def test_all_groups_of_one_pixel_size_are_taken_together(make) -> None:
    """Several groups for each pixel size, as of joined sessions with many groups each."""
    make.stack()
    four = {name: [values[0]] * 4 for name, values in make.optics().items()}
    four |= {
        "rlnOpticsGroup": [1, 2, 3, 4],
        "rlnOpticsGroupName": list("abcd"),
        "rlnImagePixelSize": [1.5, 1.6, 1.5, 1.6],
    }
    path = make.star(optics=four, rlnOpticsGroup=[1 + i % 4 for i in range(make.count)])
    said = refusal(path)
    assert "(a and 1 more: 1.5, b and 1 more: 1.6)" in said
    assert "--pixel-size 1.5" in said
    assert main([*command_in(said), str(make.folder / "out.star")]) == 0
    assert [group.name for group in io.read_particles(make.folder / "out.star").optics] == ["a", "c"]
    assert (
        main(["select", str(path), "--optics-group", "b", "--optics-group", "4", "--out", str(make.folder / "2.star")])
        == 0
    )
    assert [group.name for group in io.read_particles(make.folder / "2.star").optics] == ["b", "d"]


@pytest.mark.parametrize("suffix", [".star", ".cs"])
def test_a_group_of_one_box(make, suffix: str) -> None:
    make.stack()
    make.stack("stacks/large.mrcs", box=20)
    images = [f"{i + 1}@stacks/{('particles', 'large')[i % 2]}.mrcs" for i in range(make.count)]
    path = make.star(optics=optics(make, rlnImageSize=[16, 20]), rlnImageName=images)
    path = as_cs(make, path) if suffix == ".cs" else path
    assert "several boxes in one file" in refusal(path)
    out = make.folder / "elsewhere" / f"out{suffix}"
    out.parent.mkdir()
    assert main(["select", str(path), "--box", "20", "--out", str(out)]) == 0
    found = io.read_particles(out)
    assert (found.box, len(found)) == (20, 12)
    assert found.images.stacks[0].name == "large.mrcs"


def test_a_group_is_taken_out_of_a_table_that_cannot_be_read(make) -> None:
    """The other group is impossible; every column and other table is kept."""
    make.stack()
    path = make.star(optics=optics(make, rlnVoltage=[300, 0], rlnImagePixelSize=[1.5, "nan"]))
    path.write_text(path.read_text() + "\ndata_more\n\n_note 'kept as it is'\n")
    out = make.folder / "out.star"
    assert main(["select", str(path), "--optics-group", "first", "--out", str(out)]) == 0
    before, after = (star_table.read_source(file) for file in (path, out))
    assert after.blocks["more"].equals(before.blocks["more"])
    assert list(after.blocks["optics"]["rlnOpticsGroupName"]) == ["first"]
    assert after.table.equals(before.table.iloc[::2].reset_index(drop=True))
    np.testing.assert_array_equal(after.uid, before.uid[::2])


BAD = {
    "no choice": ([], r"is a particle file: choose --optics-group NAME, --pixel-size A or --box N"),
    "unknown": (["--optics-group", "third"], r"has no optics group third: choose from first, second"),
    "no such pixel": (["--pixel-size", "3"], r"no particle is in such an optics group"),
    "bound of a run": (["--optics-group", "first", "--max-angle-sd", "3"], r"--max-angle-sd: needs a run"),
    "iteration": (["--optics-group", "first", "--iteration", "3"], r"--iteration: needs a run"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_select_cannot_do_is_said(make, name: str, capsys) -> None:
    path, out = make.star(), make.folder / "out.star"
    words, pattern = BAD[name]
    assert main(["select", str(path), *words, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(pattern, said)
    assert not out.exists()


def test_the_input_is_not_overwritten(make, capsys) -> None:
    make.stack()
    path = as_cs(make, make.star())
    for out in (path, make.star()):
        assert main(["select", str(out), "--optics-group", "1", "--out", str(out)]) == 2
        assert "is the input itself" in capsys.readouterr().err


# Files of another type


def test_a_file_of_another_type_is_called_what_it_is(make, capsys) -> None:
    make.stack()
    folder = make.folder
    volume = folder / "a.mrc"
    mrcfile.write(volume, np.ones((8, 8, 8), np.float32), voxel_size=1.0)
    (folder / "a").write_bytes(volume.read_bytes())
    (folder / "text.txt").write_text("hello\n")
    (folder / "p.star.gz").write_bytes(b"\x1f\x8b")
    wrong = "is a map or image stack, not a particle file: give a .star, .cs or .csg file"
    said = {
        ("convert", "a.mrc", "b.cs"): wrong,
        ("convert", "a.mrc", "b.star"): wrong,
        ("convert", "a", "b.cs"): wrong,
        ("convert", "text.txt", "b.cs"): "is not a particle file: give",
        ("info", "text.txt"): "is neither a particle file (.star, .cs or .csg) nor a map or stack",
        ("info", "p.star.gz"): "is compressed: decompress it",
        ("refine", "a.mrc", "--mask", "a.mrc", "--out", "r.zarr"): wrong,
        ("refine", "stacks/particles.mrcs", "--mask", "a.mrc", "--out", "r.zarr"): wrong,
        ("refine", "text.txt", "--mask", "a.mrc", "--out", "r.zarr"): "is not a particle file: give",
        ("reconstruct", "a.mrc", "--out", "b.mrc"): wrong,
        ("select", "a.mrc", "--optics-group", "1", "--out", "b.star"): wrong,
        ("info", "missing.txt"): "cannot be read (No such file or directory)",
        ("convert", "missing.mrc", "b.cs"): "cannot be read (No such file or directory)",
    }
    for (command, *words), expected in said.items():
        argv = [word if word.startswith("-") or word.isdigit() else str(folder / word) for word in words]
        assert main([command, *argv]) == 2
        assert expected in capsys.readouterr().err, words
    assert not {"b.cs", "b.star", "b.mrc", "r.zarr"} & {path.name for path in folder.iterdir()}


def test_the_content_decides_where_the_name_does_not(make) -> None:
    make.stack()
    expected: Particles = io.read_particles(make.star())
    table = as_cs(make, make.star())
    for source, name in ((make.star(), "particles.txt"), (table, "cs/table.npy"), (make.star(), "particles")):
        path = make.folder / name
        path.write_bytes(source.read_bytes())
        np.testing.assert_array_equal(io.read_particles(path).images.index, expected.images.index)
        assert str(io.describe_file(path)["kind"]).startswith("particles")
        out = make.folder / f"o{'.star' if source == table else '.cs'}"
        assert main(["convert", str(path), str(out), "--overwrite"]) == 0
