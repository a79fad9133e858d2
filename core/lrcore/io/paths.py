"""Check places to write, write files atomically, and find image stacks from the names in a particle table."""

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from lrcore.arrays import IntArray
from lrcore.errors import InputError, write_remedy

MAX_PARENT_FOLDERS = 4
"""Parent folders of a table that are searched; enough to reach a RELION or CryoSPARC project folder."""
SUFFIXES = (".mrc", ".mrcs", ".map", ".st")
"""Extensions of stacks and maps."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path` that replaces it at the end; a failure leaves nothing behind.

    The folder and those above it are made if they do not exist.

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
        If the system refuses, for example because of permissions or a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with make_parents(path):
            try:
                yield temporary
                temporary.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
    except OSError as error:
        raise _refusal(path, error) from error


@contextlib.contextmanager
def make_parents(path: Path) -> Iterator[None]:
    """Make the folders above a path; remove those that were made if what follows fails. Raises OSError if it cannot."""
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _refusal(path: Path, error: OSError) -> InputError:
    """Return the error of a path that the system refuses to write."""
    return InputError(f"{path}: cannot be written ({error.strerror or error}): {write_remedy(error)}")


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
        problem = missing_stack_message(names[number], table.parent, images_dir)
        raise InputError(f"{where}: {problem}: give {remedy} with --images DIR")
    return tuple(path for path in found if path is not None)


def missing_stack_message(name: str, folder: Path, images_dir: Path | None) -> str:
    """Return the part of a message that says that a stack was not found, and where; the caller adds the remedy.

    Parameters
    ----------
    name : as in the table
    folder : folder of the table
    images_dir : folder that was searched first, or None
    """
    outside = ", or is outside the project folder of the table" if may_leave_folder(name) else ""
    above = f"{folder} and up to {MAX_PARENT_FOLDERS} folders above it"
    if images_dir is None:
        return f"stack {name} does not exist{outside} (searched: {above})"
    last = Path(name).name
    reason = "by the whole name and by every end of it"
    if last and os.path.isfile(images_dir / last):
        reason = f"where {last} could be several stacks of the table"
    return f"stack {name} does not exist{outside} (searched: {images_dir}, {reason}; {above})"


def _find_inside(base: Path, name: str, roots: Iterable[Path]) -> Path | None:
    path = base / name
    if not os.path.isfile(path):  # also False for names that are invalid on this system
        path = base / _latin1_file_name(name)
        if name.isascii() or not os.path.isfile(path):
            return None
    return path if not may_leave_folder(name) or (path.suffix.lower() in SUFFIXES and is_below(path, roots)) else None


def _latin1_file_name(name: str) -> str:
    """Return the name of a file whose name on disk is Latin-1, as in a STAR file of the same encoding."""
    return os.fsdecode(name.encode("latin-1", errors="replace"))


def find_stacks(names: Sequence[str], folder: Path, images_dir: Path | None) -> list[Path | None]:
    """Find each named stack; None where there is none.

    Order: in `images_dir` by the longest end of the name that exists there, unless two names would then share a stack;
    in the folder of the table; in the folders above it, which include the project folder. Raises InputError if
    `images_dir` is not a folder.
    """
    if images_dir is None:
        return [find_in_parent_folders(name, folder) for name in names]
    if not images_dir.is_dir():
        raise InputError(f"--images {images_dir}: there is no such folder: give an existing folder")
    inside = _find_by_ends(names, images_dir)
    return [path or find_in_parent_folders(name, folder) for name, path in zip(names, inside, strict=True)]


def _find_by_ends(names: Sequence[str], images_dir: Path) -> list[Path | None]:
    """Find each file in a folder by the longest end of its name; None where a shortened name is not unambiguous."""
    roots = (Path(os.path.abspath(images_dir)), images_dir.resolve())
    is_folder = cache(os.path.isdir)  # most names share their folders, and each look-up may cost a network access
    found: list[tuple[Path, bool] | None] = []
    for name in names:
        parts = Path(name).parts
        ends = (os.path.join(*parts[first:]) for first in range(len(parts)))
        paths = (_find_inside(images_dir, end, roots) for end in ends if is_folder((images_dir / end).parent))
        path = next((path for path in paths if path), None)
        found.append((path.absolute(), path == images_dir / name) if path else None)
    users = Counter(one[0] for one in found if one)
    return [one[0] if one and (one[1] or users[one[0]] == 1) else None for one in found]


def stack_name_from_folder(folder: Path, stack: Path, name: str) -> str:
    """Return how a table in `folder` names `stack`: by `name` if that still leads to it, else relative to `folder`.

    Raises InputError if that path is not UTF-8, which neither kind of table can hold.
    """
    found = find_in_parent_folders(name, folder)
    if found is not None and stack.is_file() and found.samefile(stack):
        return name
    # `..` of a linked folder leads elsewhere, so folders are resolved; the stack itself may be a link on purpose.
    path = os.path.relpath(stack.parent.resolve() / stack.name, folder.resolve())
    if _is_not_utf8(path):
        raise InputError(f"{stack}: its path from {folder} is not UTF-8, so that no table can name it: rename it")
    return path


def _is_not_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # Python keeps the bytes as surrogates
        return True
    return False


def require_writable_file(path: Path) -> None:
    """Check that a file can be written, by making a file in its folder or the nearest that exists above it.

    Nothing is left behind; folders that do not exist are made later, with the file.

    Parameters
    ----------
    path : file to write, which may exist

    Raises
    ------
    InputError
        If the path is a folder, if a part of it is a file, or if the system refuses.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _probe(path)
    except OSError as error:
        raise _refusal(path, error) from error


def require_new_file(path: Path) -> None:
    """Check that writing a file would not replace one.

    Parameters
    ----------
    path : file to write

    Raises
    ------
    InputError
        If there is a file of this name; special files such as /dev/null may be written to.
    """
    if path.is_file():
        raise InputError(f"{path}: exists already: choose another name, or replace it with --overwrite")


def require_writable_folder(folder: Path) -> None:
    """Check that files can be written into a folder, which may not exist yet; like `require_writable_file`.

    Parameters
    ----------
    folder : folder to write into

    Raises
    ------
    InputError
        If a part of the path is a file, or if the system refuses.
    """
    try:
        _probe(folder / folder.name)
    except OSError as error:
        raise _refusal(folder, error) from error


def _probe(path: Path) -> None:
    """Make a file with a name like that of `atomic_write` in the nearest folder above that exists, and remove it."""
    folder = next(above for above in path.absolute().parents if above.exists())
    probe = folder / f".{path.name}.{os.getpid()}.try"
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
    probe.unlink(missing_ok=True)


@contextlib.contextmanager
def create_files_or_clean_up(folder: Path, names: Iterable[str], overwrite: bool = False) -> Iterator[Path]:
    """Create a folder for new files; on failure, delete these files and the folders that were created.

    Parameters
    ----------
    folder : folder, created if it does not exist
    names : file names that will be written into it
    overwrite : replace files that exist; they are not deleted on failure

    Yields
    ------
    Path
        The absolute path of the folder.

    Raises
    ------
    InputError
        If the folder cannot be created, or one of the files exists and is not to be replaced.
    """
    folder, names = folder.absolute(), list(names)
    if not overwrite:
        for name in names:
            require_new_file(folder / name)
    require_writable_folder(folder)
    new = [name for name in names if not (folder / name).exists()]
    with make_parents(folder / "file"):
        try:
            yield folder
        except BaseException:
            for name in new:
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
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
