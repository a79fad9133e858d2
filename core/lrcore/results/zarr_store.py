"""Store a run on disk as a Zarr v3 hierarchy: steps are written atomically, verified by checksum and resumable.

docs/results.md describes the layout.
"""

import contextlib
import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from weakref import WeakValueDictionary

import xarray as xr
import zarr

from lrcore.errors import InputError, write_remedy
from lrcore.io.paths import make_parents, require_writable_folder
from lrcore.maps.body_maps import MapsAmidStart
from lrcore.records import HalfMaps, IterationSummary, Poses, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.fingerprints import input_fingerprints, package_versions, volume_fingerprint
from lrcore.results.map_groups import body_of, half_maps_of, volumes_dataset
from lrcore.results.store import StepNode, StepStore, with_uncertainty
from lrcore.results.tree import (
    history_from_dataset,
    join_iterations,
    mask_dataset,
    replace_curves,
    step_to_datatree,
    to_mask,
    to_step,
    whole_maps_datatree,
    with_group,
    with_mask,
    with_whole_maps,
)
from lrcore.results.zarr_files import (
    ZIP_SUFFIX,
    checksum,
    open_tree,
    read_attributes,
    rename,
    write_folder,
    write_zip,
)

FORMAT = "lrwidgets run"
FORMAT_VERSION = 3
"""Version of the layout: in version 1 each step was a folder, since version 2 it is a zip file; since version 3 a step
may have half maps of the body alone, and its whole half maps beside it."""
READABLE_VERSIONS = (1, 2, 3)
COMPANIONS = {"uncertainty": "compute the uncertainty again", "whole_maps": "make the whole maps again"}
"""Kinds of data that are stored beside a step, each with what to do when a file is damaged."""


class Store(StepStore):
    """Run in a folder RUN.zarr.

    Attributes
    ----------
    path : the folder
    inputs : fingerprints of the inputs that the run was started with
    source : how the job was loaded, as JSON values
    spec : parameters that the run was started with; None for a run that was written before they were stored
    """

    def __init__(self, path: Path, attributes: dict[str, Any], lock: IO[bytes] | None) -> None:
        super().__init__()
        self.path = path
        # A run keeps the layout that it was created with, so that the lrwidgets that created it can still read it.
        version = attributes.get("format_version", FORMAT_VERSION)
        self._suffix, self._always_whole = "" if version == 1 else ZIP_SUFFIX, version < 3
        try:
            self.inputs: dict[str, Any] = json.loads(attributes["inputs"])
            self.source: dict[str, Any] = json.loads(attributes["source"])
            self._own_mask: str = self.inputs["mask"]["digest"]
            self.spec: RefineSpec | None = _spec(attributes["spec"]) if "spec" in attributes else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}/zarr.json: its attributes are invalid ({error!r}): restore it from a copy"
            ) from error
        self._lock = lock
        self._next = 0
        self._maps_of_start: WeakValueDictionary[str, HalfMaps] = WeakValueDictionary()

    @classmethod
    def create(cls, path: str | Path, job: Job, source: dict[str, Any] | None = None) -> "Store":
        """Create a new, empty run, open for writing.

        Parameters
        ----------
        path : folder to create
        job : the job of the run
        source : how the job was loaded, as JSON values, so that the run can be resumed

        Returns
        -------
        Store
            The new run.

        Raises
        ------
        InputError
            If the path exists or cannot be written; nothing is left behind then.

        Notes
        -----
        The folders above the run are made if they do not exist.
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
        with _temporary_folder(temporary, f"{path}: cannot be written"), make_parents(path):
            write_folder(xr.DataTree.from_dict(groups), temporary)
            rename(temporary, path)
        return cls(path, attributes, _lock_run(path))

    @classmethod
    def open(cls, path: str | Path, write: bool = True) -> "Store":
        """Open a run; a damaged step is left out with a warning.

        Parameters
        ----------
        path : folder of the run
        write : True to append steps: locks the run and removes the remains of an interrupted write, with a warning.
            False to read while another process may write.

        Returns
        -------
        Store
            The run, with its last whole step as the head.

        Raises
        ------
        InputError
            If the path is not a run, has another format version, or is being written by another process.
        """
        path = Path(path)
        attributes = read_attributes(path)
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path}: is not an lrwidgets run: give the folder that --out named")
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
        """Write a step to a temporary folder, sync it to disk, and rename it to its checksum.

        Parameters
        ----------
        step, parent, job : see `StepStore.append`

        Raises
        ------
        InputError
            If the run is open for reading, if its folder was removed or replaced, or if the disk is full or refuses;
            nothing is left of the step then.
        """
        if self.read_only:
            raise InputError(f"{self.path}: is open for reading only: open it for writing to append steps")
        self._require_same_run(step.iteration)
        mask = volume_fingerprint(job.mask)
        inputs = self.inputs if mask["digest"] == self._own_mask else {**self.inputs, "mask": mask}
        tree = step_to_datatree(job, step, self._poses(parent) if parent else None, inputs)
        if self._always_whole:
            tree = with_group(tree, "volumes", volumes_dataset(step.half_maps, step.iteration))
        tree.attrs |= {"parent": parent or "", "sequence": self._next, "mask": mask["digest"]}
        partial = self.path / ".partial"
        problem = f"{self.path}: step {step.iteration} cannot be written"
        again = "continue with --resume" if self._nodes else "start again"
        with _temporary_folder(partial, problem, again):
            self._save_mask(job.mask, mask["digest"], partial)
            written = self._write(tree, partial / "step")
            name = f"{step.iteration:04d}-{checksum(written)}"
            node = StepNode(name, parent, step.iteration, job.spec, mask["digest"])
            rename(written, self._file(node.id))
        self._nodes[node.id] = node
        self._next += 1
        return node

    def load(self, node: str) -> Step:
        """Return the step of a node. Raises InputError if it is damaged."""
        found = self.node(node)
        if not self._whole(found.id):
            raise InputError(f"{self._file(found.id)}: is damaged (its checksum differs): rewind to an earlier step")
        with open_tree(self._file(found.id)) as tree:
            step = to_step(tree, lambda: self._start_maps(found.id))
        for whole in self._companions("whole_maps", found.id):
            with open_tree(whole) as tree:
                step = with_whole_maps(step, tree)
        return step

    def mask(self, node: str) -> Volume | None:
        """Return the mask of a node; see `StepStore`. Raises InputError if it is damaged."""
        digest = self.node(node).mask
        if digest == self._own_mask:
            return None
        folder = self._mask_folder(digest)
        with open_tree(folder) as tree:
            mask = to_mask(tree.to_dataset())
        if volume_fingerprint(mask)["digest"] != digest:
            raise InputError(f"{folder}: is damaged (its checksum differs): branch from a step with another mask")
        return mask

    def history(self, node: str) -> tuple[IterationSummary, ...]:
        """Return the summaries of all iterations up to a node, without reading maps."""
        with open_tree(self._file(node)) as tree:
            return history_from_dataset(tree["history"].to_dataset())

    def results(self, node: str | None = None) -> xr.DataTree:
        """Return the results up to a node; see `StepStore`. Maps and mask are read from disk when they are used."""
        path = self.path_to(node)
        trees = [open_tree(self._file(n.id)) for n in path]
        tree = with_mask(join_iterations(trees), open_tree(self._mask_folder(path[-1].mask)).to_dataset())
        tree = self._with_volumes(tree, path[-1].id)
        return with_uncertainty(tree, self.uncertainty(path[-1].id))

    def _with_volumes(self, tree: xr.DataTree, node: str) -> xr.DataTree:
        """Return the results with the whole half maps of their last step, stored beside it or made when read."""
        for whole in self._companions("whole_maps", node):
            stored = open_tree(whole)
            tree = with_group(tree, "volumes", stored["volumes"].to_dataset())
            return replace_curves(tree, stored["fsc"].to_dataset())
        if "volumes" in tree.children:
            return tree
        body = body_of(tree["body"].to_dataset())
        maps = MapsAmidStart(self._start_maps(node), body)
        return with_group(tree, "volumes", volumes_dataset(maps, self.node(node).iteration))

    def _start_maps(self, node: str) -> HalfMaps:
        """Return the half maps of the start of the path to a node; they are kept while somebody holds them."""
        start = self.path_to(node)[0].id
        maps = self._maps_of_start.get(start)
        if maps is None:
            with open_tree(self._file(start)) as tree:
                maps = self._maps_of_start[start] = half_maps_of(tree["volumes"].to_dataset())
        return maps

    def store_whole_maps(self, node: str, step: Step) -> None:
        """Write the whole half maps of a step under their checksum. Raises InputError as `append` does."""
        tree = whole_maps_datatree(step)
        self._store_companion("whole_maps", node, tree, "the whole maps cannot be stored", "make them again")

    def store_uncertainty(self, node: str, data: xr.Dataset) -> None:
        """Write the uncertainty of a step under its checksum, next to the steps. Raises InputError as `append` does."""
        self._store_companion(
            "uncertainty", node, xr.DataTree(data), "the uncertainty cannot be stored", "compute it again"
        )

    def _store_companion(self, kind: str, node: str, tree: xr.DataTree, problem: str, again: str) -> None:
        """Write data that belong to a step, in place of older ones, into the folder of their kind."""
        step = self.node(node)
        if self.read_only:
            what = problem.removesuffix(" cannot be stored").removeprefix("the ")
            raise InputError(f"{self.path}: is open for reading only: open it for writing to store the {what}")
        self._require_same_run(step.iteration)
        partial, old = self.path / f".{kind}.partial", self._files_of(kind, step.id)
        with _temporary_folder(partial, f"{self.path}: {problem}", again):
            written = self._write(tree, partial / "data")
            zarr.open_group(self.path / kind, mode="a", zarr_format=3)
            target = self.path / kind / f"{step.id}-{checksum(written)}{self._suffix}"
            if target not in old:
                rename(written, target)
        for path in old:
            if path != target:
                _remove(path)

    def uncertainty(self, node: str) -> xr.Dataset | None:
        """Return the stored uncertainty of a step, or None; a damaged one is left out with a warning."""
        for path in self._companions("uncertainty", node):
            with open_tree(path) as tree:
                return tree.to_dataset().load()
        return None

    def _companions(self, kind: str, node: str) -> Iterator[Path]:
        """Yield the file (or folder) of a kind that belongs to a step; a damaged one is left out with a warning."""
        for path in self._files_of(kind, node):
            if path.stem == f"{node}-{checksum(path)}":
                yield path
                return
            _warn(f"{path}: is damaged (its checksum differs) and left out: {COMPANIONS[kind]}")

    def _files_of(self, kind: str, node: str | None = None) -> list[Path]:
        """Return the files (or folders) of a kind that belong to a step, or to any step."""
        name = f"{node}-*" if node else "*-*-*"
        return sorted((self.path / kind).glob(name))

    @property
    def read_only(self) -> bool:
        """Return True if the run was opened for reading only, or was closed."""
        return self._lock is None

    def check_inputs(self, job: Job) -> None:
        """Raise InputError naming the first input that differs from the one that the run was started with."""
        now = input_fingerprints(job)
        for name in dict.fromkeys([*self.inputs, *now]):
            if self.inputs.get(name, {}).get("digest") != now.get(name, {}).get("digest"):
                path = now.get(name, self.inputs.get(name, {})).get("path") or name
                what = name.replace("_", " ")
                raise InputError(f"{path}: not the {what} that {self.path} was started with: use another --out")

    def close(self) -> None:
        """Release the lock; steps cannot be appended afterwards."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Close the run, and remove its folder if it has no steps."""
        self.close()
        if not self._nodes:
            shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, node: str) -> Path:
        """Return the file (or folder) of a step."""
        return self.path / "steps" / f"{node}{self._suffix}"

    def _write(self, tree: xr.DataTree, path: Path) -> Path:
        """Write a tree in the layout of this run; return its path, which is `path` with the suffix of the layout."""
        path = path.with_name(path.name + self._suffix)
        (write_zip if self._suffix else write_folder)(tree, path)
        return path

    def _mask_folder(self, digest: str) -> Path:
        """Return the folder of the mask with that digest."""
        return self.path / "mask" if digest == self._own_mask else self.path / "masks" / digest

    def _save_mask(self, mask: Volume, digest: str, partial: Path) -> None:
        """Write a mask under its digest, unless the run has it already."""
        folder = self._mask_folder(digest)
        if not folder.exists():
            write_folder(xr.DataTree(mask_dataset(mask)), partial / "mask")
            zarr.open_group(folder.parent, mode="a", zarr_format=3)
            rename(partial / "mask", folder)

    def _require_same_run(self, iteration: int) -> None:
        """Raise InputError if the folder of the locked run was removed or replaced by another run."""
        assert self._lock is not None
        problem = f"{self.path}: step {iteration} cannot be written"
        try:
            there = os.stat(self.path / "zarr.json")
        except OSError as error:
            raise InputError(
                f"{problem}: the folder of the run is gone ({error.strerror}): restore it and continue with --resume, "
                "or start again"
            ) from error
        if not os.path.samestat(there, os.fstat(self._lock.fileno())):
            raise InputError(f"{problem}: another run is at this path now: start again with another --out")

    def _clear(self) -> None:
        """Remove the remains of an interrupted write, with a warning; they were never part of the run."""
        for kind in COMPANIONS:
            shutil.rmtree(self.path / f".{kind}.partial", ignore_errors=True)
        partial = self.path / ".partial"
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
            _warn(f"{self.path}: removed the remains of an interrupted write: that step is computed again")

    def _whole(self, node: str) -> bool:
        """Return True if the files of a step match the checksum in its name."""
        return checksum(self._file(node)) == node.partition("-")[2]

    def _poses(self, node: str) -> Poses:
        """Return the poses of a step."""
        with open_tree(self._file(node)) as tree:
            particles = tree["particles"].to_dataset().isel(iteration=-1)
            return Poses(particles["rotation"].values, particles["origin"].values)

    def _scan(self) -> None:
        """Read the tree; leave out damaged newest steps and steps whose parent is damaged or missing."""
        entries: dict[str, tuple[int, StepNode]] = {}
        for path in self.step_paths():
            with _warn_unreadable_step(path):
                entries[path.stem] = self._entry(path)
        order = sorted(entries, key=lambda name: entries[name][0])
        self._next = 1 + max((entries[name][0] for name in order), default=-1)
        while order and not self._whole(order[-1]):
            _warn(f"{self._file(order.pop())}: is damaged (its checksum differs) and left out")
        for name in order:
            node = entries[name][1]
            if node.parent is not None and node.parent not in self._nodes:
                _warn(f"{self._file(name)}: its parent {node.parent} is damaged or missing: left out")
                continue
            self._nodes[name] = node

    def step_paths(self) -> list[Path]:
        """Return the files (or folders) of all steps, damaged ones included. Raises InputError if unreadable."""
        try:
            return sorted(path for path in (self.path / "steps").iterdir() if path.name != "zarr.json")
        except OSError as error:
            raise InputError(f"{self.path}/steps: cannot be read ({error.strerror}): restore it from a copy") from error

    def _entry(self, path: Path) -> tuple[int, StepNode]:
        """Return sequence number and node of a step's file. Raises InputError if its attributes are invalid."""
        attributes = read_attributes(path)
        try:
            sequence, parent = int(attributes["sequence"]), str(attributes["parent"]) or None
            mask = str(attributes.get("mask", self._own_mask))
            iteration = int(path.stem.partition("-")[0])
            return sequence, StepNode(path.stem, parent, iteration, _spec(attributes["spec"]), mask)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"its attributes are invalid: {reason[:120]}") from error

    def find_damage(self, path: Path) -> str:
        """Return the problem with the file of a step; "" if it is whole and its parent is there."""
        try:
            if not self._whole(path.stem):
                return "is damaged (its checksum differs)"
            parent = self._entry(path)[1].parent
            missing = parent is not None and not self._file(parent).exists()
            return f"cannot be used (its parent {parent} is missing)" if missing else ""
        except (InputError, OSError) as error:
            return f"is damaged ({error})"

    def damaged_companions(self) -> list[Path]:
        """Return the files (or folders) of uncertainties and whole maps that do not match their checksum."""
        stored = [path for kind in COMPANIONS for path in self._files_of(kind)]
        return [path for path in stored if path.stem.rpartition("-")[2] != checksum(path)]

    def damaged_masks(self) -> list[Path]:
        """Return the folders of masks that do not match their digest."""
        later = self.path / "masks"
        folders = {self.path / "mask": self._own_mask}
        folders |= {each: each.name for each in sorted(later.iterdir()) if each.is_dir()} if later.is_dir() else {}
        return [folder for folder, digest in folders.items() if not _is_mask(folder, digest)]


def _spec(text: Any) -> RefineSpec:
    """Return the spec in an attribute. Raises ValueError or TypeError if it is invalid."""
    return RefineSpec.model_validate_json(text)


def _is_mask(folder: Path, digest: str) -> bool:
    """Return True if a folder holds the mask with that digest."""
    try:
        with open_tree(folder) as tree:
            return bool(volume_fingerprint(to_mask(tree.to_dataset()))["digest"] == digest)
    except Exception:  # Zarr, its codecs and NumPy raise many types for a damaged file
        return False


def _require_version(path: Path, version: Any) -> None:
    """Raise InputError for a format version that this lrwidgets cannot read; docs/results.md has the rule."""
    if version in READABLE_VERSIONS:
        return
    newer = isinstance(version, int) and version > FORMAT_VERSION
    remedy = "a newer lrwidgets wrote it: use that one" if newer else "use the lrwidgets that wrote it"
    raise InputError(f"{path}: format version {version}, this lrwidgets reads 1, 2 and {FORMAT_VERSION}: {remedy}")


def require_new_run_path(path: Path) -> None:
    """Check that a run can be created at a path; see `require_writable_folder`.

    Parameters
    ----------
    path : folder to create

    Raises
    ------
    InputError
        If the path exists and is not an empty folder, or cannot be created.
    """
    if path.exists() and not is_empty_folder(path):
        raise InputError(f"{path}: exists already: continue it with --resume, or choose another --out")
    require_writable_folder(path)


def is_empty_folder(path: Path) -> bool:
    """Return whether a path is a folder without files, as a script makes one for a run that is to come."""
    try:
        return next(path.iterdir(), None) is None
    except OSError:
        return False


@contextlib.contextmanager
def _temporary_folder(folder: Path, problem: str, again: str = "start again") -> Iterator[None]:
    """Remove `folder` before and after; an OSError in between becomes an InputError that starts with `problem`."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    except OSError as error:
        remedy = write_remedy(error, full=f"make room and {again}")
        raise InputError(f"{problem} ({error.strerror or error}): {remedy}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _warn_unreadable_step(path: Path) -> Iterator[None]:
    """Turn the InputError of a step that cannot be read into a warning."""
    try:
        yield
    except InputError as error:
        _warn(f"{path}: is damaged ({error}) and left out")


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _warn(message: str) -> None:
    """Warn with the line of the calling function."""
    warnings.warn(message, stacklevel=2)


def _lock_run(path: Path) -> IO[bytes]:
    """Open the metadata file of a run and lock it until it is closed. Raises InputError if it is locked already."""
    try:
        file = (path / "zarr.json").open("r+b")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): {write_remedy(error)}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(f"{path}: another process is writing this run: wait for it or choose another --out") from error
    except OSError as error:
        _warn(
            f"{path}: this file system does not support locks ({error.strerror}): make sure that no other process "
            "writes this run"
        )
    return file
