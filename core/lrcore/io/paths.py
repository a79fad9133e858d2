"""Write files atomically, and find image stacks from the names in a particle table."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lrcore.arrays import IntArray
from lrcore.errors import InputError

MAX_PARENT_FOLDERS = 4
"""Parent folders of a table that are searched; enough to reach a RELION or CryoSPARC project folder."""
SUFFIXES = (".mrc", ".mrcs", ".map", ".st")
"""Extensions of stacks and maps."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path` that replaces it at the end; a failure leaves nothing behind.

    Parameters
    ----------
    path : file to write

    Yields
    ------
    Path
        Temporary file to write to.

    Raises
    ------
    InputError
        If the system refuses: no such folder, no permission, disk full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}): free some space or choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def folders_above(folder: Path) -> list[Path]:
    """Return `folder` and up to `LEVELS` folders above it, nearest first, without `/`, which is no project folder."""
    folder = Path(os.path.abspath(folder))  # since `a/../b` is not below `a`
    return [folder, *(above for above in folder.parents if above.name)][: MAX_PARENT_FOLDERS + 1]


def find_in_parent_folders(name: str, folder: Path) -> Path | None:
    """Find the file `name` in `folder` or a folder above it; None if there is none.

    A name that is absolute or contains `..` may only lead to stacks and maps below the highest of these folders.
    """
    bases = folders_above(folder)
    roots = (bases[-1], folders_above(folder.resolve())[-1])
    return next((path for base in bases if (path := _find_inside(base, name, roots))), None)


def may_leave_folder(name: str) -> bool:
    """Return whether a name may lead out of the folder that is searched: it is absolute or contains `..`."""
    return Path(name).is_absolute() or ".." in Path(name).parts


def is_below(path: Path, roots: Iterable[Path]) -> bool:
    """Return whether a file is below one of these folders; links in them are followed, unless `..` follows."""
    real, plain = Path(os.path.realpath(path.parent)), Path(os.path.normpath(path))
    try:
        same = plain.samefile(path)
    except OSError:  # one of them does not exist: `a@..` leads nowhere
        same = False
    return any(real.is_relative_to(root) or (same and plain.is_relative_to(root)) for root in roots)


def require_stacks(
    table: Path,
    names: Sequence[str],
    stack: IntArray,
    images_dir: Path | None,
    remedy: str = "its folder",
    column: str = "",
) -> tuple[Path, ...]:
    """Find the stacks that a table names. Raises InputError naming the first row whose stack does not exist.

    stack: (n,) index of each row's stack in `names`. remedy: what --images must be given. column: the column, if the
    message must say it.
    """
    found = find_stacks(names, table.parent, images_dir)
    if None in found:
        number = found.index(None)
        row = int(np.argmax(stack == number)) + 1
        where = f"{table}: row {row}" + (f": {column}" if column else "")
        raise InputError(f"{where}: {missing_stack_message(names[number])}: give {remedy} with --images DIR")
    return tuple(path for path in found if path is not None)


def missing_stack_message(name: str) -> str:
    """Return the part of a message that says that a stack was not found; the caller adds the remedy."""
    outside = ", or is outside the project folder of the table" if may_leave_folder(name) else ""
    return f"stack {name} does not exist{outside}"


def _find_inside(base: Path, name: str, roots: Iterable[Path]) -> Path | None:
    path = base / name
    if not os.path.isfile(path):  # also False for names that are invalid on this system
        return None
    return path if not may_leave_folder(name) or (path.suffix.lower() in SUFFIXES and is_below(path, roots)) else None


def find_stacks(names: Sequence[str], folder: Path, images_dir: Path | None) -> list[Path | None]:
    """Find each named stack; None where there is none.

    Order: in `images_dir` by the whole name, then by its last part (if all last parts differ); in the folder of the
    table; in the folders above it, which include the project folder. Raises InputError if `images_dir` is not a folder.
    """
    if images_dir is None:
        return [find_in_parent_folders(name, folder) for name in names]
    if not images_dir.is_dir():
        raise InputError(f"--images {images_dir}: there is no such folder: give an existing folder")
    last = [Path(name).name for name in names]
    distinct = len(set(last)) == len(last)
    stacks: list[Path | None] = []
    for name, short in zip(names, last, strict=True):
        roots = (Path(os.path.abspath(images_dir)), images_dir.resolve())
        candidates = (_find_inside(images_dir, part, roots) for part in ([name, short] if distinct else [name]))
        inside = next((path.absolute() for path in candidates if path), None)
        stacks.append(inside or find_in_parent_folders(name, folder))
    return stacks


def stack_name_from_folder(folder: Path, stack: Path, name: str) -> str:
    """Return how a table in `folder` names `stack`: by `name` if that still leads to it, else relative to `folder`."""
    found = find_in_parent_folders(name, folder)
    if found is not None and stack.is_file() and found.samefile(stack):
        return name
    # `..` of a linked folder leads elsewhere, so folders are resolved; the stack itself may be a link on purpose.
    return os.path.relpath(stack.parent.resolve() / stack.name, folder.resolve())


def require_parent_folder(path: Path) -> None:
    """Check that the folder of a file to be written exists.

    Parameters
    ----------
    path : file to write

    Raises
    ------
    InputError
        If it does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: create it, or choose another one")


@contextlib.contextmanager
def create_files_or_clean_up(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Create a folder for new files; on failure, delete these files and the folders that were created.

    Parameters
    ----------
    folder : folder, created if it does not exist
    names : file names that will be written into it

    Yields
    ------
    Path
        The absolute path of the folder.

    Raises
    ------
    InputError
        If the folder cannot be created, or one of the files exists.
    """
    folder, names = folder.absolute(), list(names)
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror or error}): choose another folder") from error
    existing = next((name for name in names if (folder / name).exists()), None)
    if existing is not None:
        raise InputError(f"{folder / existing}: exists already: choose another --out")
    try:
        yield folder
    except BaseException:
        for name in names:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        for created in missing:
            with contextlib.suppress(OSError):
                created.rmdir()
        raise


def refuse_to_overwrite_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Check that writing a file would not replace one that was read.

    Parameters
    ----------
    path : file to write
    inputs : files that were read

    Raises
    ------
    InputError
        If `path` is one of the inputs.
    """
    if path.exists() and any(file.exists() and path.samefile(file) for file in inputs):
        raise InputError(f"{path}: is the input itself: choose another name")
