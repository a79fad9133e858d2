"""Fixtures shared by all tests: the outside data sets and RELION's programs, each skipped visibly where absent."""

import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.exclusive import remove_lock_files, wait_for_turn

ROOT = Path(__file__).resolve().parents[1]

# Before numba is imported: at least two threads, so that a test of thread counts means something on any machine.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, min(4, len(os.sched_getaffinity(0))))))
# Threads that wait give the core to the tests of another process instead of spinning on it: a sixth of all CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


LONGEST_FIRST = ("validation", "lrwidgets/jupyter", "lrwidgets/cli", "lrwidgets/session", "lrcore/io")
"""Folders whose files take minutes; the last process to end should not have begun one of them last."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, in every process in the same order."""

    def late(item: pytest.Item) -> int:
        folder = item.path.parent.relative_to(ROOT / "tests").as_posix()
        return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=late)


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """`test_data("two_body")` is the folder of an outside data set; skips where it is not on this machine."""
    base = Path(os.environ.get("LRW_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()

    def find(name: str) -> Path:
        folder = base / name
        if not folder.exists():
            pytest.skip(f"no data set {name} in {base} (set LRW_TEST_DATA)")
        return folder

    return find


@pytest.fixture(scope="session")
def relion() -> Callable[[str], str]:
    """`relion("relion_reconstruct")` is the path of that program; skips where it is not installed."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install relion)")
        return path

    return find


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT interrupts, here and in programs started here, also where the shell ignores it for what it runs behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that started the others takes the files away by which they took turns."""
    nodes = getattr(config.pluginmanager.get_plugin("dsession"), "nodemanager", None)
    if nodes is not None:
        remove_lock_files(nodes.testrunuid)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With several processes, a test that measures time has the machine for itself, its fixtures included."""
    workers = getattr(item.config, "workerinput", None)
    if workers is None:
        return (yield)
    with wait_for_turn(workers["testrunuid"], item.get_closest_marker("alone") is not None):
        return (yield)
