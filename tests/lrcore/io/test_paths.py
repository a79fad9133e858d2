"""Places to write: folders are made and cleaned up, and a refusal by the system names the remedy that helps."""

import errno
import os
from pathlib import Path

import pytest

from lrcore.errors import InputError, write_remedy
from lrcore.io.paths import atomic_write, create_files_or_clean_up, require_writable_file, require_writable_folder
from lrwidgets.text.errors import error_message

FULL = "free some space or choose another place"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EFBIG, FULL),
        (errno.ENOENT, "choose another place"),
        (errno.EACCES, "check the permissions of the folder"),
        (errno.EPERM, "check the permissions of the folder"),
        (errno.EROFS, "this file system can only be read"),
        (errno.EISDIR, "give the name of a file, not of a folder"),
        (errno.ENOTDIR, "a file is in the place of a folder"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "choose another place"),
    ],
)
def test_the_remedy_follows_the_number_of_the_error(code: int, remedy: str, tmp_path: Path) -> None:
    refusal = OSError(code, os.strerror(code), "x")
    assert remedy in write_remedy(refusal)
    assert ("free some space" in write_remedy(refusal)) == (remedy == FULL)
    assert ("free some space" in error_message(refusal)) == (remedy == FULL)
    with pytest.raises(InputError) as caught, atomic_write(tmp_path / "not" / "yet" / "x"):
        raise refusal
    assert f"{tmp_path / 'not' / 'yet' / 'x'}: cannot be written ({os.strerror(code)}): " in str(caught.value)
    assert remedy in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_error_without_a_number_has_a_remedy() -> None:
    assert write_remedy(OSError("odd")) == "choose another place"
    assert error_message(OSError("odd")) == "system: odd: check the file and its folder"


def test_folders_are_made_and_stay_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a" / "d" / "e.txt"):
        raise RuntimeError
    assert os.listdir(tmp_path / "a") == ["b"]
    assert os.listdir(path.parent) == ["c.txt"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()

    def fail() -> None:
        with create_files_or_clean_up(tmp_path / "kept" / "new", ["a"]) as folder:
            (folder / "a").write_text("x")
            raise InputError("no")

    with pytest.raises(InputError, match="no"):
        fail()
    assert os.listdir(tmp_path / "kept") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be written .*a file is in the place"):
        create_files_or_clean_up(tmp_path / "file", ["a"]).__enter__()


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    require_writable_file(tmp_path / "a" / "b.txt")
    require_writable_folder(tmp_path / "a" / "b")
    (tmp_path / "b").mkdir()
    require_writable_folder(tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]
    assert os.listdir(tmp_path / "b") == []
    with pytest.raises(InputError, match="choose a shorter name"):
        require_writable_file(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="not of a folder"):
        require_writable_file(tmp_path / "b")


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)  # root may write anywhere
    with pytest.raises(InputError, match=r"x: cannot be written \(Permission denied\): check the permissions"):
        require_writable_file(tmp_path / "x")
