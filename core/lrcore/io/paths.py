"""Check places to write, write files atomically, and find image stacks from the names in a particle table."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

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
    existing = next((name for name in names if (folder / name).exists()), None)
    if existing is not None:
        raise InputError(f"{folder / existing}: exists already: choose another --out")
    require_writable_folder(folder)
    with make_parents(folder / "file"):
        try:
            yield folder
        except BaseException:
            for name in names:
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
