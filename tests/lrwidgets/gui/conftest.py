"""A session with a made-up engine, and a panel without a toolkit."""

from collections.abc import Iterator

import pytest

from lrwidgets.session.session import Session
from tests.fakes import FakeEngine, make_job
from tests.lrwidgets.gui.panels import FakePanel


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(make_job(40), engine=FakeEngine()) as session:
        yield session


@pytest.fixture
def panel() -> Iterator[FakePanel]:
    panel = FakePanel()
    yield panel
    panel.stop_threads()
