"""A display for napari: the person's, or Xvfb's own, started for the tests and ended with them."""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lrcore.records import HalfMaps, Volume
from lrwidgets.session.session import Session
from tests.fakes import BOX, PIXEL, FakeEngine, make_job

pytest.importorskip("napari")
if TYPE_CHECKING:
    from lrwidgets.napari_panel.panel import SessionPanel
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


@pytest.fixture
def session() -> Iterator[Session]:
    job = make_job()
    z, y, x = np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij")
    ball = np.exp(-(x**2 + y**2 + z**2) / 6.0).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.01, (2, BOX, BOX, BOX)).astype(np.float32)
    halves = HalfMaps(Volume(ball + noise[0], PIXEL), Volume(ball + noise[1], PIXEL))
    with Session(replace(job, half_maps=halves), engine=FakeEngine()) as made:
        yield made


@pytest.fixture
def panel(session: Session, qtbot) -> Iterator["SessionPanel"]:
    from napari.components import ViewerModel

    from lrwidgets.napari_panel.panel import SessionPanel

    made = SessionPanel(ViewerModel(), session)
    qtbot.addWidget(made)
    assert made.flush()
    yield made
    made.shut_down()
