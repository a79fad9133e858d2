"""Runs as trees of whole steps: on disk (Zarr v3; written whole or not at all, verified, resumable) or in memory."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import xarray as xr
import zarr

from lrcore.errors import InputError
from lrcore.records import IterationSummary, Poses, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.fingerprints import input_fingerprints, package_versions, volume_fingerprint
from lrcore.results.store import StepNode, StepStore, with_uncertainty
from lrcore.results.tree import (
    history_from_dataset,
    join_iterations,
    mask_dataset,
    step_tree,
    to_mask,
    to_step,
    with_mask,
)

FORMAT = "lrwidgets run"
FORMAT_VERSION = 1
CHUNK = 2**18
"""Most particles in one chunk of a variable."""


class Store(StepStore):
    """A run in a folder; docs/results.md describes it."""

    def __init__(self, path: Path, attributes: dict[str, Any], lock: IO[bytes] | None) -> None:
        super().__init__()
        self.path = path
        try:
            self.inputs: dict[str, Any] = json.loads(attributes["inputs"])
            self.source: dict[str, Any] = json.loads(attributes["source"])
            self._own_mask: str = self.inputs["mask"]["digest"]
            self.spec: RefineSpec | None = _spec(attributes["spec"]) if "spec" in attributes else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}/zarr.json: makes no sense ({error!r}): restore it from a copy") from error
        self._lock = lock
        self._next = 0

    @classmethod
    def create(cls, path: str | Path, job: Job, source: dict[str, Any] | None = None) -> "Store":
        """A new, empty run of a job. source: how the job was loaded (JSON), for whoever resumes it.

        Raises InputError if the path exists or cannot be written; then nothing is left.
        """
        path = Path(path)
        require_new_run_path(path)
        attributes = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "inputs": json.dumps(input_fingerprints(job)),
            "source": json.dumps(source or {}),
            "spec": job.spec.model_dump_json(),
            "versions": json.dumps(package_versions()),
        }
        groups = {"/": xr.Dataset(attrs=attributes), "/mask": mask_dataset(job.mask), "/steps": xr.Dataset()}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with _temporary_folder(temporary, f"{path}: cannot be written"):
            _write(xr.DataTree.from_dict(groups), temporary)
            _rename(temporary, path)
        return cls(path, attributes, _lock_run(path))

    @classmethod
    def open(cls, path: str | Path, write: bool = True) -> "Store":
        """A run at its last whole step. write: take the writer's lock and clear what a crash has left, which is told.

        Warns of damaged steps and leaves them out. Raises InputError if the path is no run, or if another process
        holds it for writing.
        """
        path = Path(path)
        attributes = _attributes(path)
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path}: is no run of lrwidgets: give the folder that --out named")
        _require_version(path, attributes.get("format_version"))
        store = cls(path, attributes, _lock_run(path) if write else None)
        try:
            if write:
                store._clear()
            store._scan()
        except BaseException:
            store.close()
            raise
        return store

    def append(self, step: Step, parent: str | None, job: Job) -> StepNode:
        """Write a step to a temporary name, sync it, rename it to its checksum.

        Raises InputError when the disk is full or refuses; then nothing is left of the step.
        """
        if self.read_only:
            raise InputError(f"{self.path}: was opened for reading: open it for writing to go on with it")
        self._require_same_run(step.iteration)
        mask = volume_fingerprint(job.mask)
        inputs = self.inputs if mask["digest"] == self._own_mask else {**self.inputs, "mask": mask}
        tree = step_tree(job, step, self._poses(parent) if parent else None, inputs)
        tree.attrs |= {"parent": parent or "", "sequence": self._next, "mask": mask["digest"]}
        partial = self.path / ".partial"
        problem = f"{self.path}: step {step.iteration} cannot be written"
        again = "go on with --resume" if self._nodes else "begin again"
        with _temporary_folder(partial, problem, again):
            self._save_mask(job.mask, mask["digest"], partial)
            _write(tree, partial / "step")
            name = f"{step.iteration:04d}-{_digest(partial / 'step')}"
            node = StepNode(name, parent, step.iteration, job.spec, mask["digest"])
            _rename(partial / "step", self._folder(node.id))
        self._nodes[node.id] = node
        self._next += 1
        return node

    def load(self, node: str) -> Step:
        """The step of a node. Raises InputError if it is damaged."""
        found = self.node(node)
        if not self._whole(found.id):
            raise InputError(f"{self._folder(found.id)}: is damaged (its checksum differs): rewind to an earlier step")
        with _open(self._folder(found.id)) as tree:
            return to_step(tree)

    def mask(self, node: str) -> Volume | None:
        """The mask of a node; see `Steps`. Raises InputError if it is damaged."""
        digest = self.node(node).mask
        if digest == self._own_mask:
            return None
        folder = self._mask_folder(digest)
        with _open(folder) as tree:
            mask = to_mask(tree.to_dataset())
        if volume_fingerprint(mask)["digest"] != digest:
            raise InputError(f"{folder}: is damaged (its checksum differs): branch from a step with another mask")
        return mask

    def history(self, node: str) -> tuple[IterationSummary, ...]:
        """The history up to a node; maps are not read."""
        with _open(self._folder(node)) as tree:
            return history_from_dataset(tree["history"].to_dataset())

    def results(self, node: str | None = None) -> xr.DataTree:
        """Results by the schema; maps and mask are read when they are used."""
        path = self.path_to(node)
        trees = [_open(self._folder(n.id)) for n in path]
        tree = with_mask(join_iterations(trees), _open(self._mask_folder(path[-1].mask)).to_dataset())
        return with_uncertainty(tree, self.uncertainty(path[-1].id))

    def keep_uncertainty(self, node: str, data: xr.Dataset) -> None:
        """Write it beside the steps under its checksum. Raises InputError as `append` does."""
        found = self.node(node)
        if self.read_only:
            raise InputError(f"{self.path}: was opened for reading: open it for writing to keep something in it")
        self._require_same_run(found.iteration)
        partial, old = self.path / ".uncertainty.partial", self._uncertainties(found.id)
        with _temporary_folder(partial, f"{self.path}: the uncertainty cannot be kept", "ask again"):
            _write(xr.DataTree(data), partial / "data")
            zarr.open_group(self.path / "uncertainty", mode="a", zarr_format=3)
            target = self.path / "uncertainty" / f"{found.id}-{_digest(partial / 'data')}"
            if target not in old:
                _rename(partial / "data", target)
        for folder in old:
            if folder != target:
                shutil.rmtree(folder, ignore_errors=True)

    def uncertainty(self, node: str) -> xr.Dataset | None:
        """What was kept of a step, or None; what is damaged is warned of and left out."""
        for folder in self._uncertainties(node):
            if folder.name == f"{node}-{_digest(folder)}":
                with _open(folder) as tree:
                    return tree.to_dataset().load()
            _warn(f"{folder}: is damaged (its checksum differs) and left out: ask for the uncertainty again")
        return None

    def _uncertainties(self, node: str | None = None) -> list[Path]:
        """The folders of what was kept of a step, or of all."""
        name = f"{node}-*" if node else "*-*-*"
        return sorted(one for one in (self.path / "uncertainty").glob(name) if one.is_dir())

    @property
    def read_only(self) -> bool:
        """Whether it can only be looked at."""
        return self._lock is None

    def check_inputs(self, job: Job) -> None:
        """Raise InputError naming the first input that is not what the run was begun with."""
        now = input_fingerprints(job)
        for name in dict.fromkeys([*self.inputs, *now]):
            if self.inputs.get(name, {}).get("digest") != now.get(name, {}).get("digest"):
                path = now.get(name, self.inputs.get(name, {})).get("path") or name
                what = name.replace("_", " ")
                raise InputError(f"{path}: {what} differ from what {self.path} was begun with: use another --out")

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Close an empty run and remove its folder; a run that has a step stays."""
        self.close()
        if not self._nodes:
            shutil.rmtree(self.path, ignore_errors=True)

    def _folder(self, node: str) -> Path:
        return self.path / "steps" / node

    def _mask_folder(self, digest: str) -> Path:
        return self.path / "mask" if digest == self._own_mask else self.path / "masks" / digest

    def _save_mask(self, mask: Volume, digest: str, partial: Path) -> None:
        """Write a mask that the run has not seen yet, under its digest."""
        folder = self._mask_folder(digest)
        if not folder.exists():
            _write(xr.DataTree(mask_dataset(mask)), partial / "mask")
            zarr.open_group(folder.parent, mode="a", zarr_format=3)
            _rename(partial / "mask", folder)

    def _require_same_run(self, iteration: int) -> None:
        """Raise InputError if the run that we hold is no longer the one at its path: removed, or another's by now."""
        assert self._lock is not None
        problem = f"{self.path}: step {iteration} cannot be written"
        try:
            there = os.stat(self.path / "zarr.json")
        except OSError as error:
            raise InputError(
                f"{problem}: the run's folder is gone ({error.strerror}): bring it back and go on with --resume, or "
                "begin again"
            ) from error
        if not os.path.samestat(there, os.fstat(self._lock.fileno())):
            raise InputError(f"{problem}: another run has taken its place: begin again with another --out")

    def _clear(self) -> None:
        """Clear what an interrupted write has left, and say so: it never counted."""
        shutil.rmtree(self.path / ".uncertainty.partial", ignore_errors=True)
        partial = self.path / ".partial"
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
            _warn(f"{self.path}: what an interrupted write had left was cleared: that step is made again")

    def _whole(self, node: str) -> bool:
        return _digest(self._folder(node)) == node.partition("-")[2]

    def _poses(self, node: str) -> Poses:
        rotation, origin = (zarr.open_array(self._folder(node) / "particles" / name) for name in ("rotation", "origin"))
        return Poses(np.asarray(rotation[-1]), np.asarray(origin[-1]))

    def _scan(self) -> None:
        """Read the tree; leave out a damaged newest step and whatever has lost its parent."""
        found: dict[str, tuple[int, StepNode]] = {}
        for folder in self.folders():
            with _warn_unreadable_step(folder):
                found[folder.name] = self._entry(folder)
        order = sorted(found, key=lambda name: found[name][0])
        self._next = 1 + max((found[name][0] for name in order), default=-1)
        while order and not self._whole(order[-1]):
            _warn(f"{self._folder(order.pop())}: is damaged (its checksum differs) and left out")
        for name in order:
            node = found[name][1]
            if node.parent is not None and node.parent not in self._nodes:
                _warn(f"{self._folder(name)}: its parent {node.parent} is damaged or missing: left out")
                continue
            self._nodes[name] = node

    def folders(self) -> list[Path]:
        """The folders of all steps, whole or not, by name."""
        try:
            return sorted(folder for folder in (self.path / "steps").iterdir() if folder.is_dir())
        except OSError as error:
            raise InputError(f"{self.path}/steps: cannot be read ({error.strerror}): restore it from a copy") from error

    def _entry(self, folder: Path) -> tuple[int, StepNode]:
        """Sequence and node of a step's folder. Raises InputError if its attributes make no sense."""
        attributes = _attributes(folder)
        try:
            sequence, parent = int(attributes["sequence"]), str(attributes["parent"]) or None
            mask = str(attributes.get("mask", self._own_mask))
            iteration = int(folder.name.partition("-")[0])
            return sequence, StepNode(folder.name, parent, iteration, _spec(attributes["spec"]), mask)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"its attributes make no sense: {reason[:120]}") from error

    def damage(self, folder: Path) -> str:
        """What is wrong with the folder of a step; empty if it is whole."""
        try:
            self._entry(folder)
            return "" if self._whole(folder.name) else "is damaged (its checksum differs)"
        except (InputError, OSError) as error:
            return f"is damaged ({error})"

    def damaged_uncertainties(self) -> list[Path]:
        """Folders of kept uncertainties that are not what their checksum says."""
        return [one for one in self._uncertainties() if one.name.rpartition("-")[2] != _digest(one)]

    def damaged_masks(self) -> list[Path]:
        """Folders of masks that are not what their digest says."""
        others = self.path / "masks"
        folders = {self.path / "mask": self._own_mask}
        folders |= {one: one.name for one in sorted(others.iterdir()) if one.is_dir()} if others.is_dir() else {}
        return [folder for folder, digest in folders.items() if not _is_mask(folder, digest)]


def _spec(text: Any) -> RefineSpec:
    """The spec in an attribute. Raises ValueError or TypeError if it is none."""
    return RefineSpec.model_validate_json(text)


def _is_mask(folder: Path, digest: str) -> bool:
    try:
        with _open(folder) as tree:
            return bool(volume_fingerprint(to_mask(tree.to_dataset()))["digest"] == digest)
    except Exception:  # whatever the libraries below say of a damaged file: it is not that mask
        return False


def _require_version(path: Path, version: Any) -> None:
    """Raise InputError for a run that this version cannot read; docs/results.md has the rule."""
    if version == FORMAT_VERSION:
        return
    newer = isinstance(version, int) and version > FORMAT_VERSION
    remedy = "a newer lrwidgets wrote it: use that one" if newer else "use the lrwidgets that wrote it"
    raise InputError(f"{path}: format version {version}, this lrwidgets reads {FORMAT_VERSION}: {remedy}")


def require_new_run_path(path: Path) -> None:
    """Raise InputError unless a run can be made at `path`: it is free, and the folder above it lets us write."""
    if path.exists():
        raise InputError(f"{path}: exists already: go on with it by --resume, or choose another --out")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: make it, or choose another --out")
    with _temporary_folder(
        path.with_name(f".{path.name}.{os.getpid()}.partial"), f"{path}: cannot be written"
    ) as probe:
        probe.mkdir()


@contextlib.contextmanager
def _temporary_folder(folder: Path, problem: str, again: str = "begin again") -> Iterator[Path]:
    """Clear `folder` before and after; whatever the system refuses meanwhile is an InputError that begins so."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = f"make room and {again}" if full else "check its permissions, or choose another --out"
        raise InputError(f"{problem} ({error.strerror or error}): {remedy}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


WRITE_BATCH_BYTES = 64 << 20
"""Bytes up to which a tree is put together in memory before it is written."""


def _write(tree: xr.DataTree, folder: Path) -> None:
    """Write a tree as a Zarr v3 hierarchy and sync every file and folder of it to the disk."""
    encoding = {node.path: {str(k): _encoding(v) for k, v in node.variables.items()} for node in tree.subtree}
    folder.parent.mkdir(exist_ok=True)
    how: dict[str, Any] = {"mode": "w-", "zarr_format": 3, "consolidated": False, "encoding": encoding}
    if tree.nbytes > WRITE_BATCH_BYTES:
        tree.to_zarr(folder, **how)
    else:
        # A step is some two hundred small files, which Zarr writes one after the other from another thread.
        files: dict[str, Any] = {}
        tree.to_zarr(zarr.storage.MemoryStore(files), **how)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.to_bytes())
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    """One chunk for each iteration and half; maps as they are, since noise does not shrink."""
    whole = {"iteration": 1, "half": 1, "particle": CHUNK}
    sizes = zip(variable.dims, variable.shape, strict=True)
    chunks = tuple(max(1, min(n, whole.get(str(dim), n))) for dim, n in sizes)
    return {"chunks": chunks, **({"compressors": None} if variable.dtype == np.float32 else {})}


def _rename(folder: Path, target: Path) -> None:
    os.rename(folder, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(folder: Path) -> str:
    """BLAKE2b over the names and contents of all files below a folder, as 16 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        total.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _open(folder: Path) -> xr.DataTree:
    return xr.open_datatree(folder, engine="zarr", consolidated=False)


@contextlib.contextmanager
def _warn_unreadable_step(folder: Path) -> Iterator[None]:
    """A step that cannot be read is warned of."""
    try:
        yield
    except InputError as error:
        _warn(f"{folder}: is damaged ({error}) and left out")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def _attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a Zarr v3 group."""
    try:
        found = json.loads((folder / "zarr.json").read_text())
        attributes: dict[str, Any] = dict(found["attributes"])
    except FileNotFoundError as error:
        raise InputError(f"{folder}: is no run of lrwidgets: give the folder that --out named") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}/zarr.json: cannot be read ({error}): restore it from a copy") from error
    return attributes


def _lock_run(path: Path) -> IO[bytes]:
    """The run's own metadata file, opened and locked until it is closed."""
    try:
        file = (path / "zarr.json").open("r+b")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): check its permissions") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(f"{path}: another process is writing this run: wait for it or choose another --out") from error
    except OSError as error:
        _warn(f"{path}: this file system knows no locks ({error.strerror}): see that no other process writes this run")
    return file
