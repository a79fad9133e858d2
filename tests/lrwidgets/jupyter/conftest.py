"""JupyterLab in Chromium, once with subshells for the messages of widgets and once without."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from lrwidgets.session.session import Session
from tests.fakes import FakeEngine, make_job
from tests.lrwidgets.jupyter.lab import Lab, Notebook, browse, serve, write_notebook

SUBSHELLS = ("perCommTarget", "disabled")


LOST_QUESTION = "Canceled future for kernel_info_request"
"""Error of a page that was reloaded because its kernel never answered; see `Notebook.open`."""


@pytest.fixture
def session() -> Iterator[Session]:
    """A session on made-up data with a made-up engine."""
    with Session(make_job(40), engine=FakeEngine()) as session:
        yield session


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium; skips where it is not installed."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium fonts-dejavu-core)")
    return path


@pytest.fixture(scope="session", params=SUBSHELLS)
def lab(chromium: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab server for each setting of commsOverSubshells; tests/conftest.py keeps its tests in one process."""
    with serve(tmp_path_factory.mktemp(f"lab-{request.param}"), request.param) as server:
        yield server


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrowserContext, list[str]]]:
    """Chromium, and the errors that its pages have met."""
    errors: list[str] = []
    profile = tmp_path_factory.mktemp("chromium")
    with sync_playwright() as playwright, browse(playwright, chromium, profile, errors) as context:
        yield context, errors


@pytest.fixture
def open_notebook(
    lab: Lab, browser: tuple[BrowserContext, list[str]], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """`open_notebook("x.ipynb", "cell", …)` opens it on a fresh kernel. Pictures go to $LRW_SCREENSHOTS, if set."""
    context, errors = browser
    errors.clear()
    pictures = Path(os.environ.get("LRW_SCREENSHOTS") or tmp_path) / lab.subshells
    opened: list[Notebook] = []

    def open_it(name: str, *cells: str) -> Notebook:
        if cells:
            write_notebook(lab.folder / name, *cells)
        notebook = Notebook(lab, context.new_page(), name, pictures)
        opened.append(notebook)
        notebook.open()
        return notebook

    yield open_it
    for number, notebook in enumerate(opened):
        notebook.screenshot(f"end-of-{request.node.originalname}-{number}")
        notebook.close()
    assert [error for error in errors if LOST_QUESTION not in error] == []


@pytest.fixture
def page(browser: tuple[BrowserContext, list[str]]) -> Iterator[Page]:
    """A page without JupyterLab, for `browser.render`."""
    context, errors = browser
    errors.clear()
    shown = context.new_page()
    shown.set_viewport_size({"width": 1000, "height": 480})
    yield shown
    shown.close()
    assert errors == []
