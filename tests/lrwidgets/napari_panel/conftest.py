"""A display for napari: the person's, or Xvfb's own, started for the tests and ended with them."""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

pytest.importorskip("napari")
SCREEN = "1600x1000x24"


@pytest.fixture(scope="session", autouse=True)
def display() -> Iterator[None]:
    """Set DISPLAY, unless there is one."""
    if os.environ.get("DISPLAY"):
        yield
        return
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed (apt install xvfb), and there is no DISPLAY")
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", SCREEN, "-nolisten", "tcp"]
    subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL, preexec_fn=_ends_with_us)
    os.close(writing)
    with os.fdopen(reading) as answer:
        number = answer.readline().strip()
    os.environ["DISPLAY"] = f":{number}"
    os.environ.pop("QT_QPA_PLATFORM", None)
    yield


def _ends_with_us() -> None:
    """In Xvfb: end when the process of the tests has ended; Qt complains of a display that goes before it."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@pytest.fixture(scope="session", autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of a person's napari settings is read or written."""
    before = os.environ.get("NAPARI_CONFIG")
    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")
    yield
    if before is None:
        del os.environ["NAPARI_CONFIG"]
    else:
        os.environ["NAPARI_CONFIG"] = before
