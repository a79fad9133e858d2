"""Fixtures shared by all tests: the outside data sets and RELION's programs, each skipped visibly where absent."""

import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distribution import sort_key, unit_of
from tests.exclusive import remove_lock_files, wait_for_turn

ROOT = Path(__file__).resolve().parents[1]

# Before numba is imported: at least two threads, so that a test of thread counts means something on any machine.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, min(4, len(os.sched_getaffinity(0))))))
# Threads that wait give the core to the tests of another process instead of spinning on it: a sixth of all CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_configure(config: pytest.Config) -> None:
    """With several processes, each kernel is compiled by one of them; see `tests.compiling`."""
    workers = getattr(config, "workerinput", None)
    if workers is not None:
        from tests.compiling import compile_in_turn  # imported here, since it imports Numba

        compile_in_turn(workers["testrunuid"])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests in the same way in every process; see `tests.distribution`."""
    items.sort(key=sort_key)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes and `--dist loadfile`, choose which tests stay together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        """Hand out units of tests as `tests.distribution` says."""

        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Scheduling(config, log)


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
