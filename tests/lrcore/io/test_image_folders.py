"""Stacks in the sub-folders of --images DIR, and paths that are not UTF-8."""

import os
import shutil
from pathlib import Path

import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.paths import find_stacks
from lrwidgets.cli._main import main

LATIN_1 = os.fsdecode(b"d\xe9j\xe0")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_longest_end_of_a_name_that_exists_counts(tmp_path: Path) -> None:
    data, table = tmp_path / "data", tmp_path / "table"
    table.mkdir()
    touch(data / "a/x.mrcs", data / "b/x.mrcs", data / "b/y.mrcs", data / "job7/b/y.mrcs", data / "z.mrcs")
    names = ["Extract/job7/a/x.mrcs", "Extract/job7/b/x.mrcs", "Extract/job7/b/y.mrcs", "/home/me/z.mrcs", "no.mrcs"]
    found = find_stacks(names, table, data)
    assert found == [data / "a/x.mrcs", data / "b/x.mrcs", data / "job7/b/y.mrcs", data / "z.mrcs", None]


def test_two_names_never_end_in_one_stack(tmp_path: Path) -> None:
    data, table = tmp_path / "data", tmp_path / "table"
    table.mkdir()
    touch(data / "x.mrcs")
    assert find_stacks(["a/x.mrcs", "b/x.mrcs"], table, data) == [None, None]
    assert find_stacks(["a/x.mrcs", "x.mrcs"], table, data) == [None, data / "x.mrcs"], "a whole name is no guess"
    touch(table / "a/x.mrcs", table / "b/x.mrcs")
    assert find_stacks(["a/x.mrcs", "b/x.mrcs"], table, data) == [table / "a/x.mrcs", table / "b/x.mrcs"]


def test_ends_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    data, table = tmp_path / "data", tmp_path / "table"
    table.mkdir()
    touch(tmp_path / "out/x.mrcs", data / "in/y.mrcs", data / "in/y.txt")
    assert find_stacks(["p/../../out/x.mrcs", "q/../in/y.mrcs", "../in/y.txt"], table, data) == [
        None,
        data / "in/y.mrcs",
        data / "in/y.txt",
    ]
    assert find_stacks(["", ".", "..", "/", "a\0b", "x" * 5000], table, data) == [None] * 6


@pytest.mark.parametrize("suffix", [".star", ".cs"])
def test_two_sessions_with_the_same_file_names(make, suffix: str) -> None:
    for session in "ab":
        make.stack(f"data/session_{session}/grid.mrcs", count=12)
    names = [f"{i % 12 + 1}@Extract/job007/session_{'ab'[i // 12]}/grid.mrcs" for i in range(make.count)]
    path = make.star("elsewhere/p.star", rlnImageName=names)
    if suffix == ".cs":
        assert main(["convert", str(path), str(path.with_suffix(".cs"))]) == 0
        path = path.with_suffix(".cs")
    found = io.read_particles(path, make.folder / "data").images
    assert [stack.parent.name for stack in found.stacks] == ["session_a", "session_b"]
    for folder in (make.folder / "data/session_a", make.folder):
        with pytest.raises(InputError) as caught:
            io.read_particles(path, folder)
        said = str(caught.value)
        assert "stack Extract/job007/session_" in said
        assert f"searched: {folder}, " in said
        assert str(path.parent) in said
        assert ("grid.mrcs could be several stacks" in said) == (folder.name == "session_a")


@pytest.fixture
def odd(make) -> Path:
    """A folder whose name is not UTF-8, with a particle set in it."""
    folder = make.folder / LATIN_1
    try:
        folder.mkdir()
    except (OSError, UnicodeError):  # pragma: no cover - file systems that hold UTF-8 alone
        pytest.skip("this file system holds UTF-8 names alone")
    make.stack()
    make.star()
    shutil.move(make.folder / "stacks", folder)
    shutil.move(make.folder / "particles.star", folder)
    return folder


def test_paths_that_are_not_utf8_are_printed(odd: Path, capsys) -> None:
    star = odd / "particles.star"
    for command in (["info", str(star)], ["info", "--json", str(star)], ["convert", str(star), str(odd / "p.cs")],
                    ["duplicates", str(star), "--out", str(odd / "d.star")], ["info", str(odd / "p.cs")]):  # fmt: skip
        assert main(command) == 0
    capsys.readouterr()
    assert main(["info", str(odd / "no.star")]) == 2
    assert "no.star: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".star", ".cs"])
def test_a_table_elsewhere_cannot_name_such_a_path_and_says_so(odd: Path, suffix: str, capsys) -> None:
    out = odd.parent / "elsewhere" / f"out{suffix}"
    out.parent.mkdir()
    assert main(["duplicates", str(odd / "particles.star"), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "particles.mrcs: its path from" in said
    assert "is not UTF-8" in said
    assert list(out.parent.iterdir()) == []
