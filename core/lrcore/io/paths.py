"""Files: written whole or not at all, and image stacks found from the names that a table gives them."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lrcore.errors import InputError

LEVELS = 4
"""How many folders above a table's own are searched: a RELION or CryoSPARC project folder is among them."""
SUFFIXES = (".mrc", ".mrcs", ".map", ".st")
"""Names of stacks and maps."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which takes its place at the end; a failure leaves nothing behind.

    Raises InputError when the system refuses: no such folder, no permission, disk full.
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
    """`folder` and the folders above it, nearest first, `LEVELS` of them; `/` itself is no project folder."""
    folder = Path(os.path.abspath(folder))  # `a/../b` is not below `a`
    return [folder, *(above for above in folder.parents if above.name)][: LEVELS + 1]


def find_in_parent_folders(name: str, folder: Path) -> Path | None:
    """Where `name` leads from `folder` or a folder above it; an absolute name leads only to itself.

    A name that is absolute or climbs (`..`) leads only to stacks and maps below the highest of these folders.
    """
    bases = folders_above(folder)
    roots = (bases[-1], folders_above(folder.resolve())[-1])
    return next((found for base in bases if (found := _find_inside(base, name, roots))), None)


def may_leave_folder(name: str) -> bool:
    """Whether a name may lead out of the folder that it is looked for in: absolute, or climbing."""
    return Path(name).is_absolute() or ".." in Path(name).parts


def is_below(path: Path, roots: Iterable[Path]) -> bool:
    """Whether a file is below one of these folders; links on the way that no `..` follows are theirs, and followed."""
    real, plain = Path(os.path.realpath(path.parent)), Path(os.path.normpath(path))
    try:
        same = plain.samefile(path)
    except OSError:  # of either there is nothing: `a@..` leads nowhere
        same = False
    return any(real.is_relative_to(root) or (same and plain.is_relative_to(root)) for root in roots)


def missing_stack_message(name: str) -> str:
    """What to say of a stack that was not found, but the way out."""
    outside = ", or is outside the table's project, where no name may lead" if may_leave_folder(name) else ""
    return f"the stack {name} is not there{outside}"


def _find_inside(base: Path, name: str, roots: Iterable[Path]) -> Path | None:
    found = base / name
    if not os.path.isfile(found):  # False of names that no system can have, too
        return None
    return (
        found if not may_leave_folder(name) or (found.suffix.lower() in SUFFIXES and is_below(found, roots)) else None
    )


def find_stacks(names: Sequence[str], folder: Path, images_dir: Path | None) -> list[Path | None]:
    """Path of each named stack, None where there is none.

    Order: below `images_dir` under the whole name, then under the last part of the name (if no two stacks share
    it); beside the table; then from the folders above it, of which the project folder is one. Raises InputError if
    `images_dir` is no folder.
    """
    if images_dir is None:
        return [find_in_parent_folders(name, folder) for name in names]
    if not images_dir.is_dir():
        raise InputError(f"--images {images_dir}: there is no such folder")
    last = [Path(name).name for name in names]
    distinct = len(set(last)) == len(last)
    found: list[Path | None] = []
    for name, short in zip(names, last, strict=True):
        roots = (Path(os.path.abspath(images_dir)), images_dir.resolve())
        tried = (_find_inside(images_dir, one, roots) for one in ([name, short] if distinct else [name]))
        below = next((path.absolute() for path in tried if path), None)
        found.append(below or find_in_parent_folders(name, folder))
    return found


def stack_name_from_folder(folder: Path, stack: Path, name: str) -> str:
    """How a table in `folder` names `stack`: `name` as it was if that still leads there, else relative to `folder`."""
    found = find_in_parent_folders(name, folder)
    if found is not None and stack.is_file() and found.samefile(stack):
        return name
    # A linked folder's `..` leads elsewhere, so folders are resolved; the stack's own name may be a link on purpose.
    return os.path.relpath(stack.parent.resolve() / stack.name, folder.resolve())


def require_parent_folder(path: Path) -> None:
    """Raise InputError if `path` cannot be written because its folder is not there."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: make it, or write elsewhere")


@contextlib.contextmanager
def create_files_or_clean_up(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield the folder, absolute, made if need be; a failure takes away these files and the folders that were made.

    Raises InputError if it cannot be made, or if one of these files is there.
    """
    folder, names = folder.absolute(), list(names)
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}): choose another folder") from error
    there = next((name for name in names if (folder / name).exists()), None)
    if there is not None:
        raise InputError(f"{folder / there}: exists already: choose another --out")
    try:
        yield folder
    except BaseException:
        for name in names:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        for one in missing:
            with contextlib.suppress(OSError):
                one.rmdir()
        raise


def refuse_to_overwrite_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Raise InputError if writing `path` would replace one of the files that were read."""
    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        raise InputError(f"{path}: is the input itself: choose another name")
