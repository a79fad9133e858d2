"""A turn for every test: a test marked `alone` measures time, and no test of another process runs beside it.

Two file locks in the run's temporary folder. A test passes the door and then shares the room; one that is alone keeps
the door shut until the room is empty, so that it cannot be overtaken for ever.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def wait_for_turn(run: str, alone: bool) -> Iterator[None]:
    """Wait for this test's turn among the processes of one test run, and hold it."""
    with (
        file_lock(f"{run}.door", fcntl.LOCK_EX) as door,
        file_lock(f"{run}.room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH),
    ):
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


def remove_lock_files(run: str) -> None:
    """Remove the files of a test run that has ended."""
    for name in ("door", "room", "compiler"):
        _path(f"{run}.{name}").unlink(missing_ok=True)


def _path(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"lrwidgets-tests-{name}"


@contextmanager
def file_lock(name: str, kind: int) -> Iterator[int]:
    """Hold a lock that the processes of a test run share; kind: fcntl.LOCK_EX or LOCK_SH."""
    file = os.open(_path(name), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, kind)
        yield file
    finally:
        os.close(file)
