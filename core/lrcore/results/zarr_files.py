"""Write data trees as Zarr v3 folders or zip files that are synced to disk, read them back, and checksum them.

A zip file holds the files of a Zarr hierarchy, not compressed again; `zarr.storage.ZipStore` reads it.
"""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore, ZipStore

from lrcore.errors import InputError

ZIP_SUFFIX = ".zip"
CHUNK = 2**18
"""Largest number of particles in one chunk of a variable."""
LARGE_CHUNK_BYTES = 16 << 20
"""Size from which a chunk is written to the zip file at once, instead of being kept in memory until the end."""
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every entry, so that the same step gives the same file."""


class _ZipWriter(MemoryStore):
    """Zarr store that writes each key once into a zip file, although Zarr changes the metadata repeatedly."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__()
        self._archive = archive

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write a large chunk to the zip file; keep anything else until `finish`."""
        if byte_range is None and len(value) >= LARGE_CHUNK_BYTES:
            self._write(key, value)
        else:
            await super().set(key, value, byte_range)

    def finish(self) -> None:
        """Write what was kept, the metadata of the root first."""
        for key in sorted(self._store_dict, key=lambda name: (name.count("/"), name)):
            self._write(key, self._store_dict[key])

    def _write(self, key: str, value: Buffer) -> None:
        entry = zipfile.ZipInfo(key, ZIP_EPOCH)
        entry.external_attr = 0o644 << 16
        entry.file_size = len(value)
        with self._archive.open(entry, "w") as file:
            file.write(np.ascontiguousarray(value.as_numpy_array()).data)


def write_zip(tree: xr.DataTree, path: Path) -> None:
    """Write a tree as a Zarr v3 hierarchy in a new zip file, and sync it to disk. Raises OSError if it cannot."""
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            store = _ZipWriter(archive)
            tree.to_zarr(store, **_options(tree))
            store.finish()
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def write_folder(tree: xr.DataTree, folder: Path) -> None:
    """Write a tree as a Zarr v3 hierarchy in a new folder, and sync all of it to disk. Raises OSError if it cannot."""
    folder.parent.mkdir(exist_ok=True)
    tree.to_zarr(folder, **_options(tree))
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _options(tree: xr.DataTree) -> dict[str, Any]:
    """Return how `to_zarr` writes a tree."""
    encoding = {node.path: {str(k): _encoding(v) for k, v in node.variables.items()} for node in tree.subtree}
    return {"mode": "w-", "zarr_format": 3, "consolidated": False, "encoding": encoding}


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    """Return one chunk for each iteration and half set; maps are not compressed, because noise does not compress."""
    largest = {"iteration": 1, "half": 1, "particle": CHUNK}
    sizes = zip(variable.dims, variable.shape, strict=True)
    chunks = tuple(max(1, min(n, largest.get(str(dim), n))) for dim, n in sizes)
    return {"chunks": chunks, **({"compressors": None} if variable.dtype == np.float32 else {})}


def rename(path: Path, target: Path) -> None:
    """Rename a file or folder and sync the parent of its new name to disk."""
    os.rename(path, target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Sync a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """Return a BLAKE2b digest as 16 hexadecimal digits: of a file, or of the names and contents of a folder's files."""
    total = hashlib.blake2b(digest_size=8)
    if path.suffix == ZIP_SUFFIX:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
        return total.hexdigest()
    for each in sorted(p for p in path.rglob("*") if p.is_file()):
        content = each.read_bytes()
        total.update(f"{each.relative_to(path).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def open_tree(path: Path) -> xr.DataTree:
    """Open a Zarr hierarchy without loading its arrays. Raises InputError if a zip file is damaged."""
    if path.suffix != ZIP_SUFFIX:
        return xr.open_datatree(path, engine="zarr", consolidated=False)
    try:
        store = ZipStore(path)
        tree = xr.open_datatree(store, engine="zarr", consolidated=False)  # type: ignore[arg-type]
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: is damaged ({error}): rewind to an earlier step") from error
    tree.set_close(store.close)
    return tree


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr v3 group. Raises InputError if it is none, or cannot be read."""
    try:
        metadata = json.loads(_read_metadata(path))
        attributes: dict[str, Any] = dict(metadata["attributes"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: is not an lrwidgets run: give the folder that --out named") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}/zarr.json: cannot be read ({error}): restore it from a copy") from error
    return attributes


def _read_metadata(path: Path) -> str | bytes:
    """Return the metadata of a group, JSON."""
    if path.suffix != ZIP_SUFFIX:
        return (path / "zarr.json").read_text()
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("zarr.json")
    except (EOFError, NotImplementedError, RuntimeError) as error:  # what zipfile raises for flags that are damaged
        raise zipfile.BadZipFile(str(error)) from error
