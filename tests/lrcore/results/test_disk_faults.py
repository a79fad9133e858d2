"""What a machine does to a run: full and read-only disks, folders and stacks gone, damage. A sentence each, no loss."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.io import mrc_maps
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.verification import verify_run
from lrcore.results.zarr_store import Store
from lrwidgets.cli._main import main
from tests.fakes import make_job, make_step, same_bits
from tests.lrwidgets.conftest import make_files


def begun(path: Path, steps: int = 3) -> tuple[Store, list[str]]:
    """A run at `path`, open for writing, and the names of its steps."""
    job = make_job()
    store, names, step = Store.create(path, job), [], None
    for _ in range(steps):
        step = make_step(job, step)
        names.append(store.append(step, names[-1] if names else None, job).id)
    return store, names


def refused(store: Store, names: list[str]) -> str:
    """What appending one more step is refused with, in one line."""
    job = make_job()
    with pytest.raises(InputError) as caught:
        store.append(make_step(job, store.load(names[-1]) if store.path.exists() else make_step(job)), names[-1], job)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{store.path}: step ")
    return message


def first_chunk(variable: Path) -> Path:
    """A file with values of a variable."""
    return min(path for path in variable.rglob("*") if path.is_file() and path.name != "zarr.json")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_every_whole_step(small_disk: Path) -> None:
    """Steps are written until the disk is full: those stay, bit for bit, and go on where there is room again."""
    job = make_job()
    store, names = begun(small_disk / "run.zarr", 1)
    step = store.load(names[0])
    message = ""
    while not message and len(names) < 40:
        after = make_step(job, step)
        try:
            names.append(store.append(after, names[-1], job).id)
            step = after
        except InputError as error:
            message = str(error)
    assert "cannot be written (No space left on device): make room and continue with --resume" in message
    assert len(names) > 1
    assert not (store.path / ".partial").exists()
    assert verify_run(store.path).usable == tuple(names)
    assert same_bits(store.load(names[-1]), step)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    names.append(store.append(make_step(job, step), names[-1], job).id)
    store.close()
    assert verify_run(small_disk / "run.zarr").usable == tuple(names)


def test_a_disk_that_turns_read_only_between_steps(small_disk: Path) -> None:
    store, names = begun(small_disk / "run.zarr", 2)
    mounted = subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True)
    if mounted.returncode:  # a file that is open for writing holds it; a new mount over it does not ask
        subprocess.run(["mount", "--bind", "-o", "ro", str(small_disk), str(small_disk)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(small_disk)], check=True)
    assert "cannot be written (Read-only file system): this file system can only be read" in refused(store, names)
    store.close()
    assert verify_run(small_disk / "run.zarr").usable == tuple(names)
    with pytest.raises(
        InputError, match=r"cannot be written \(Read-only file system\): this file system can only be read"
    ):
        Store.open(small_disk / "run.zarr")
    assert Store.open(small_disk / "run.zarr", write=False).load(names[-1]).iteration == 1
    if mounted.returncode:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_a_folder_that_is_removed_under_a_run(tmp_path: Path) -> None:
    store, names = begun(tmp_path / "run.zarr")
    shutil.rmtree(tmp_path / "run.zarr")
    assert "the folder of the run is gone (No such file or directory)" in refused(store, names)
    assert os.listdir(tmp_path) == []


def test_another_run_in_its_place_is_not_written_into(tmp_path: Path) -> None:
    store, names = begun(tmp_path / "run.zarr")
    (tmp_path / "run.zarr").rename(tmp_path / "moved.zarr")
    other, theirs = begun(tmp_path / "run.zarr", 3)
    assert "another run is at this path now" in refused(store, names)
    other.close()
    assert [node.id for node in Store.open(tmp_path / "run.zarr").tree()] == theirs


@pytest.mark.slow
@pytest.mark.parametrize(("at", "how"), [(0, "cut"), (1, "bit"), (2, "cut")])
def test_check_finds_damage_in_any_step(at: int, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, names = begun(tmp_path / "run.zarr")
    store.close()
    victim = tmp_path / "run.zarr" / "steps" / f"{names[at]}.zip"
    content = victim.read_bytes()
    assert content
    victim.write_bytes(content[:-1] if how == "cut" else bytes([content[0] ^ 1]) + content[1:])
    found = verify_run(tmp_path / "run.zarr")
    assert set(found.damaged) == {names[at]}
    assert found.usable == tuple(names[:at])
    assert main(["check", str(tmp_path / "run.zarr")]) == 2
    out, error = capsys.readouterr()
    assert f"{names[at]}: is damaged (its checksum differs)" in out
    assert f"{at} of 3 steps are intact" in out
    assert error.startswith(f"error: {tmp_path / 'run.zarr'}: 1 damaged: ")
    assert error.count("\n") == 1


def test_check_finds_a_step_that_is_gone(tmp_path: Path) -> None:
    store, names = begun(tmp_path / "run.zarr")
    store.close()
    (tmp_path / "run.zarr" / "steps" / f"{names[1]}.zip").unlink()
    found = verify_run(tmp_path / "run.zarr")
    assert found.damaged == {names[2]: f"cannot be used (its parent {names[1]} is missing)"}
    assert found.usable == (names[0],)


def test_check_of_a_sound_run_and_of_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, names = begun(tmp_path / "run.zarr")
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "run.zarr").rglob("*"))
    assert main(["check", str(tmp_path / "run.zarr"), "--json"]) == 0  # also while it is being written
    record = json.loads(capsys.readouterr().out)
    assert record["usable"] == names
    assert record["damaged"] == {}
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "run.zarr").rglob("*")) == before
    store.close()
    mask = first_chunk(tmp_path / "run.zarr" / "mask" / "mask")
    mask.write_bytes(mask.read_bytes()[:-4])
    assert set(verify_run(tmp_path / "run.zarr").damaged) == {"mask"}
    assert main(["check", str(tmp_path)]) == 2
    assert "is not an lrwidgets run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (
            {"format_version": 4},
            "format version 4, this lrwidgets reads 1, 2 and 3: a newer lrwidgets wrote it: use that one",
        ),
        ({"format_version": "x"}, "format version x, this lrwidgets reads 1, 2 and 3: use the lrwidgets that wrote it"),
        ({"inputs": "{"}, r"zarr\.json: its attributes are invalid"),
        ({"inputs": "[]"}, r"zarr\.json: its attributes are invalid"),
        ({"source": 5}, r"zarr\.json: its attributes are invalid"),
        ({"spec": '{"unknown": 1}'}, r"zarr\.json: its attributes are invalid"),
    ],
)
def test_a_run_of_another_version_or_of_nonsense(change: dict[str, object], pattern: str, tmp_path: Path) -> None:
    begun(tmp_path / "run.zarr")[0].close()
    path = tmp_path / "run.zarr" / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"] |= change
    path.write_text(json.dumps(content))
    for write in (True, False):
        with pytest.raises(InputError, match=pattern):
            Store.open(tmp_path / "run.zarr", write)


def test_a_run_killed_before_its_first_step_keeps_its_spec(tmp_path: Path) -> None:
    Store.create(tmp_path / "run.zarr", make_job(rotation_prior_sd_deg=2.5)).close()
    assert Store.open(tmp_path / "run.zarr").spec == RefineSpec(rotation_prior_sd_deg=2.5)


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path / "run.zarr")[0].close()

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match=r"does not support locks \(No locks available\): make sure that no other"):
        Store.open(tmp_path / "run.zarr").close()


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ENODEV])
def test_a_stack_on_a_mount_that_vanishes(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    particles = io.read_particles(make_files(tmp_path).star)

    def vanished(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with io.StackReader(particles.images, particles.box) as reader:
        reader.read([0])
        with monkeypatch.context() as patch:
            patch.setattr(mrc_maps, "read_into", vanished)
            with pytest.raises(InputError, match=rf"s\.mrcs: cannot be read \({os.strerror(code)}\): check the file"):
                reader.read([1])
        assert np.isfinite(reader.read([1])).all()


def test_a_mask_of_another_box_is_refused_on_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, job = make_files(tmp_path), make_job()
    small = replace(job.mask, data=job.mask.data[:-2, :-2, :-2].copy())
    io.write_volume(files.folder / "small.mrc", small)
    argv = files.refine(tmp_path / "run.zarr")
    argv[argv.index(str(files.mask))] = str(files.folder / "small.mrc")
    assert main(argv) == 2
    assert "small.mrc: the mask is 10³ but the particles' box is 12: re-box the mask" in capsys.readouterr().err
    assert not (tmp_path / "run.zarr").exists()
