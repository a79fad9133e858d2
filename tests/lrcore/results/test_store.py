"""The run on disk: whole steps or none, bit for bit, verified, branching, locked, readable by xarray alone."""

import contextlib
import gc
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

from lrcore.errors import InputError
from lrcore.records import Step
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.results import zarr_files
from lrcore.results import zarr_store as store_module
from lrcore.results.schema import validate
from lrcore.results.store import MemoryStore, StepStore
from lrcore.results.verification import verify_run
from lrcore.results.zarr_store import Store
from tests.fakes import make_job, make_particles, make_step, same_bits, with_flipped_bit


@pytest.fixture
def job() -> Job:
    return make_job()


@pytest.fixture
def steps(job: Job) -> list[Step]:
    first = make_step(job)
    second = make_step(job, first)
    return [first, second, make_step(job, second)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.zarr"


def fill(store: StepStore, steps: list[Step], job: Job) -> list[str]:
    ids: list[str] = []
    for step in steps:
        ids.append(store.append(step, ids[-1] if ids else None, job).id)
    return ids


@pytest.fixture
def run(path: Path, job: Job, steps: list[Step]) -> list[str]:
    store = Store.create(path, job, {"images": None})
    ids = fill(store, steps, job)
    store.close()
    return ids


def step_file(path: Path, node: str) -> Path:
    """The file of a step."""
    return path / "steps" / f"{node}.zip"


def flip_byte(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_steps_come_back_bit_for_bit(path: Path, run: list[str], steps: list[Step]) -> None:
    store = Store.open(path)
    back = [store.load(node) for node in run]
    store.close()
    assert all(map(same_bits, back, steps))
    assert np.signbit(back[0].half_maps.first.data[0, 0, 0])
    assert not same_bits(back[0], with_flipped_bit(steps[0]))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_branch_has_its_own_path_and_spec(kind: str, path: Path, job: Job, steps: list[Step]) -> None:
    store = MemoryStore(job) if kind == "memory" else Store.create(path, job)
    start, one, two = fill(store, steps, job)
    other = replace(job, spec=RefineSpec(rotation_prior_sd_deg=2.0))
    branch = store.append(make_step(other, steps[0]), start, other)
    assert [node.id for node in store.path_to(branch.id)] == [start, branch.id]
    assert [node.id for node in store.path_to(two)] == [start, one, two]
    assert store.head == branch
    assert [node.parent for node in store.tree()] == [None, start, one, start]
    tree = store.results(branch.id)
    validate(tree)
    assert [s["rotation_prior_sd_deg"] for s in json.loads(tree.attrs["specs"])] == [5.0, 2.0]
    assert same_bits(store.load(two), steps[2])
    with pytest.raises(InputError, match="no step nowhere"):
        store.path_to("nowhere")
    store.close()


def test_disk_and_memory_give_the_same_results(path: Path, run: list[str], job: Job, steps: list[Step]) -> None:
    memory = MemoryStore(job)
    fill(memory, steps, job)
    expected, found = memory.results(), Store.open(path, write=False).results()
    validate(found)
    for name in expected.children:
        xr.testing.assert_identical(found[name].to_dataset(), expected[name].to_dataset())
    assert found.attrs["specs"] == expected.attrs["specs"]


def test_results_read_maps_only_when_used(path: Path, run: list[str]) -> None:
    tree = Store.open(path, write=False).results()
    assert not tree["volumes"].variables["half_map"]._in_memory
    assert tree["volumes"]["half_map"].shape == (2, 12, 12, 12)


def test_xarray_alone_reads_a_step_and_the_mask(path: Path, run: list[str], steps: list[Step]) -> None:
    store = ZipStore(step_file(path, run[1]))
    with xr.open_datatree(store, engine="zarr", consolidated=False) as tree:  # type: ignore[arg-type]
        validate(tree)
        assert tree.attrs["parent"] == run[0]
        assert np.array_equal(tree["volumes"]["half_map"][1], steps[1].half_maps.second.data)
    store.close()
    with xr.open_dataset(path / "mask", engine="zarr", consolidated=False) as mask:
        assert mask["mask"].shape == (12, 12, 12)


def test_a_step_is_one_file_stored_without_more_compression(path: Path, run: list[str]) -> None:
    assert sorted(os.listdir(path / "steps")) == [*(f"{node}.zip" for node in run), "zarr.json"]
    with zipfile.ZipFile(step_file(path, run[1])) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None


def test_reading_steps_leaves_no_file_open(path: Path, run: list[str]) -> None:
    store = Store.open(path, write=False)
    gc.disable()
    try:
        for _ in range(3):
            store.load(run[1])
            store.history(run[1])
        links = [os.readlink(link.path) for link in os.scandir("/proc/self/fd") if os.path.exists(link.path)]
    finally:
        gc.enable()
    assert [link for link in links if link.startswith(str(path))] == []


def test_a_reopened_run_goes_on(path: Path, run: list[str], job: Job, steps: list[Step]) -> None:
    store = Store.open(path)
    assert store.head is not None
    assert store.head.id == run[-1]
    assert store.source == {"images": None}
    fourth = store.append(make_step(job, steps[2]), run[-1], job)
    store.close()
    assert Store.open(path, write=False).head == fourth


def test_a_path_that_exists_is_never_overwritten(path: Path, run: list[str], job: Job) -> None:
    before = files(path)
    with pytest.raises(InputError, match="exists already: continue it with --resume"):
        Store.create(path, job)
    assert files(path) == before


def test_a_place_that_cannot_be_written(tmp_path: Path, job: Job) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file/run\.zarr: cannot be written .*: a file is in the place of a folder"):
        Store.create(tmp_path / "file" / "run.zarr", job)
    assert os.listdir(tmp_path) == ["file"]


def test_the_folders_above_a_run_are_made_with_it(tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "not" / "yet" / "run.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_folder", raise_full)
        with pytest.raises(InputError, match="No space left"):
            Store.create(run, job)
    assert os.listdir(tmp_path) == []
    Store.create(run, job).close()
    assert Store.open(run).head is None
    assert os.listdir(run.parent) == ["run.zarr"]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an lrwidgets run"):
        Store.open(tmp_path)
    (tmp_path / "zarr.json").write_text('{"attributes": {"format": "other"}}')
    with pytest.raises(InputError, match="is not an lrwidgets run"):
        Store.open(tmp_path)
    with pytest.raises(InputError, match="is not an lrwidgets run"):
        Store.open(tmp_path / "zarr.json")
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        Store.open(tmp_path)


def test_leftovers_of_a_crash_are_cleared(path: Path, run: list[str]) -> None:
    (path / ".partial").mkdir()
    (path / ".partial" / "step.zip").write_bytes(step_file(path, run[1]).read_bytes()[:-1])
    Store.open(path, write=False)
    assert (path / ".partial").exists()
    assert verify_run(path).left == (str(path / ".partial"),)
    with pytest.warns(UserWarning, match=r"run\.zarr: removed the remains of an interrupted write"):
        store = Store.open(path)
    store.close()
    assert not (path / ".partial").exists()
    assert [node.id for node in store.tree()] == run


@pytest.mark.slow
@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_damaged_head_is_left_out(path: Path, run: list[str], where: float) -> None:
    damaged = step_file(path, run[2])
    flip_byte(damaged, int(where * (damaged.stat().st_size - 1)))
    with pytest.warns(UserWarning, match="damaged"):
        store = Store.open(path, write=False)
    assert [node.id for node in store.tree()] == run[:2]


def test_a_damaged_step_is_not_loaded(path: Path, run: list[str]) -> None:
    flip_byte(step_file(path, run[1]), 5000)
    store = Store.open(path, write=False)
    with pytest.raises(InputError, match="is damaged"):
        store.load(run[1])
    store.load(run[2])


def test_a_step_whose_parent_is_gone_is_left_out(path: Path, run: list[str]) -> None:
    step_file(path, run[1]).unlink()
    with pytest.warns(UserWarning, match="its parent"):
        store = Store.open(path, write=False)
    assert [node.id for node in store.tree()] == run[:1]


def test_one_writer_many_readers(path: Path, run: list[str]) -> None:
    writer = Store.open(path)
    with pytest.raises(InputError, match="another process is writing this run"):
        Store.open(path)
    assert Store.open(path, write=False).head == writer.head
    writer.close()
    Store.open(path).close()


def raise_full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["to_zarr", "rename"])
def test_a_full_disk_leaves_nothing_half_written(
    path: Path, run: list[str], job: Job, steps: list[Step], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(path)
    before = files(path)
    with monkeypatch.context() as patch:
        patch.setattr(*((xr.DataTree, "to_zarr") if moment == "to_zarr" else (store_module, "rename")), raise_full)
        with pytest.raises(
            InputError,
            match=r"step 3 cannot be written \(No space left on device\): make room and continue with --resume",
        ):
            store.append(make_step(job, steps[2]), run[-1], job)
    assert files(path) == before
    assert len(store.tree()) == 3
    store.append(make_step(job, steps[2]), run[-1], job)
    store.close()
    assert len(Store.open(path, write=False).tree()) == 4


LIMITED = """
import resource, sys
from lrcore.errors import InputError
from lrcore.results.zarr_store import Store
from tests.fakes import make_job, make_step
job = make_job()
store = Store.create(sys.argv[1], job)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.append(make_step(job), None, job)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_file_that_the_system_refuses(path: Path, root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'core'}"}
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert "step 0 cannot be written (File too large): make room and start again" in done.stdout
    assert done.stdout.count("\n") == 1
    assert os.listdir(path / "steps") == ["zarr.json"]
    assert not (path / ".partial").exists()
    assert Store.open(path).head is None


def test_only_an_empty_run_is_discarded(tmp_path: Path, path: Path, run: list[str], job: Job) -> None:
    Store.create(tmp_path / "empty.zarr", job).discard()
    Store.open(path).discard()
    assert os.listdir(tmp_path) == ["run.zarr"]
    assert len(Store.open(path).tree()) == 3


def test_changed_inputs_are_named(path: Path, run: list[str], job: Job) -> None:
    store = Store.open(path, write=False)
    store.check_inputs(job)
    store.check_inputs(replace(job, particles=replace(job.particles, path=Path("moved.star"))))
    with pytest.raises(InputError, match="not the particles that"):
        store.check_inputs(replace(job, particles=make_particles(seed=1)))
    changed = job.mask.data.copy()
    changed[6, 6, 6] = 0.9
    with pytest.raises(InputError, match="not the mask that"):
        store.check_inputs(replace(job, mask=replace(job.mask, data=changed)))
    with pytest.raises(InputError, match="not the half map 1 that"):
        store.check_inputs(replace(job, half_maps=make_step(job).half_maps))


@pytest.mark.slow
def test_the_same_step_has_the_same_name(tmp_path: Path, job: Job, steps: list[Step]) -> None:
    names = []
    for folder in ("a", "b"):
        store = Store.create(tmp_path / folder, job)
        names.append(fill(store, steps, job))
        store.close()
    assert names[0] == names[1]


def test_large_chunks_go_to_the_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    written: list[dict[str, bytes]] = []
    for name, large in (("kept.zarr", zarr_files.LARGE_CHUNK_BYTES), ("streamed.zarr", 0)):
        monkeypatch.setattr(zarr_files, "LARGE_CHUNK_BYTES", max(large, 6000))
        with contextlib.closing(Store.create(tmp_path / name, job)) as store:
            node = store.append(make_step(job), None, job).id
            assert same_bits(store.load(node), make_step(job))
        with zipfile.ZipFile(step_file(tmp_path / name, node)) as archive:
            written.append({each: archive.read(each) for each in archive.namelist()})
    kept, streamed = written
    assert next(iter(streamed)).startswith("volumes/half_map/c/")
    assert kept == streamed
    assert next(iter(kept)) == "zarr.json"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run of format version 1, with a folder for each step: as it was written then."""
    with tarfile.open(Path(__file__).with_name("run_format_1.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run.zarr"


def without_presence(step: Step) -> Step:
    """The step as a version read it that did not know of presence."""
    n = len(step.expectation.poses)
    expectation = replace(step.expectation, evidence=np.zeros(n), misfit=np.zeros(n), presence=np.ones(n))
    return replace(step, expectation=expectation, history=tuple(replace(s, present_share=1.0) for s in step.history))


def test_a_run_of_format_1_is_read_and_goes_on_in_its_layout(old_run: Path) -> None:
    job = make_job(4)
    first = make_step(job)
    second = make_step(job, first)
    assert verify_run(old_run).damaged == {}
    store = Store.open(old_run)
    store.check_inputs(job)
    names = [node.id for node in store.tree()]
    assert [name[:5] for name in names] == ["0000-", "0001-"]
    assert same_bits(store.load(names[0]), without_presence(first))
    loaded = store.load(names[1])
    # Format 1 had no key of the settings.
    assert same_bits(replace(loaded, settings_key=second.settings_key), without_presence(second))
    validate(store.results())
    third = store.append(make_step(job, second), names[1], job)
    assert (old_run / "steps" / third.id / "zarr.json").is_file()
    store.store_uncertainty(third.id, xr.Dataset({"draws": ("particle", np.ones(4))}))
    assert store.uncertainty(third.id) is not None
    store.close()
    assert len(verify_run(old_run).usable) == 3


def test_damage_to_a_run_of_format_1_is_found(old_run: Path) -> None:
    names = sorted(name for name in os.listdir(old_run / "steps") if name[0] == "0")
    (old_run / "steps" / names[1] / "volumes/half_map/c/0/0/0/0").unlink()
    assert set(verify_run(old_run).damaged) == {names[1]}
    with pytest.warns(UserWarning, match="damaged"):
        assert len(Store.open(old_run, write=False).tree()) == 1
