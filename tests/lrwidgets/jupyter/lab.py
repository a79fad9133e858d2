"""JupyterLab and a browser for tests: a server in a folder of its own, a notebook open in Chromium, its kernel."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jupyter_client.blocking import BlockingKernelClient
from playwright.sync_api import BrowserContext, Locator, Page, Playwright

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "lrwidgets"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
WINDOW = {"width": 1366, "height": 2000}
"""As wide as a laptop, and tall: what is off the screen leaves the page."""
LAPTOP = {"width": 1366, "height": 768}
MOST_S = 120.0
"""How long anything may take on a busy machine with two cores."""
START_S = 300.0
"""How long a server may take to start there, from a disk that has not read it before."""

RUN = """number => {
    const panel = jupyterapp.shell.currentWidget, cells = panel.content.widgets;
    const cell = cells.filter(cell => cell.model.type === "code")[number];
    panel.content.activeCellIndex = cells.indexOf(cell);
    window.lrw_ended = {...window.lrw_ended, [number]: ""};
    const ended = jupyterapp.commands.execute("notebook:run-cell");
    ended.then(well => { window.lrw_ended[number] = well ? "well" : "badly"; });
}"""
"""Runs a cell by the command that a keystroke gives: keys are lost while the page is still being built."""

SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "docmanager-extension/plugin": {"autosave": False},
}


def wait_until(true: Callable[[], Any], what: str, most_s: float = MOST_S, every_s: float = 0.05) -> Any:
    """The first truthy answer; fails after `most_s`, with `what` and the last answer."""
    end = time.monotonic() + most_s
    while not (answer := true()):
        assert time.monotonic() < end, f"waited {most_s:g} s for {what}; last: {answer!r}"
        time.sleep(every_s)
    return answer


@dataclass(frozen=True)
class Lab:
    """A running server. folder: its root. subshells: the setting commsOverSubshells."""

    url: str
    folder: Path
    runtime: Path
    subshells: str

    def ask(self, method: str, path: str) -> Any:
        """An answer of the server's REST interface."""
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urllib.request.urlopen(request, timeout=MOST_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end_kernels(self) -> None:
        """End every session, so that the next test starts with none."""
        for session in self.ask("GET", "sessions"):
            self.ask("DELETE", f"sessions/{session['id']}")


@contextmanager
def serve(above: Path, subshells: str) -> Iterator[Lab]:
    """JupyterLab on a free port, with settings, data and notebooks below `above` and nothing of the user's."""
    folder, config = above / "work", above / "config"
    folder.mkdir(parents=True)
    for name, values in {**SETTINGS, "apputils-extension/kernels-settings": {"commsOverSubshells": subshells}}.items():
        path = config / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    (config / "labconfig").mkdir()
    disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    arguments = [
        "--no-browser", "--allow-root", "--LabApp.expose_app_in_browser=True", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    places = {name: str(above / name.lower()) for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT / 'core'}"}
    with (above / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env={**os.environ, **places, **paths, "JUPYTER_CONFIG_DIR": str(config)},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        lab = Lab(url, folder, above / "jupyter_runtime_dir", subshells)
        try:
            wait_until(lambda: server.poll() is not None or _answers(lab), "the server", START_S)
            assert server.poll() is None, (above / "server.log").read_text()
            yield lab
            lab.end_kernels()
        finally:
            end_with_children(server)


def end_with_children(server: subprocess.Popen[bytes]) -> None:
    """End a program by SIGTERM, and kill what is left of it and of all that it has started after `MOST_S`."""
    family = [psutil.Process(server.pid)]
    family += family[0].children(recursive=True)
    server.terminate()
    _, left = psutil.wait_procs(family, MOST_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.wait()


def _answers(lab: Lab) -> bool:
    try:
        return bool(lab.ask("GET", "status"))
    except urllib.error.URLError:
        return False


@contextmanager
def browse(playwright: Playwright, chromium: str, profile: Path, errors: list[str]) -> Iterator[BrowserContext]:
    """Chromium on a new profile. errors: filled with what goes wrong in pages."""
    context = playwright.chromium.launch_persistent_context(
        str(profile), executable_path=chromium, args=FLAGS, viewport=WINDOW
    )
    context.set_default_timeout(1e3 * MOST_S)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    try:
        yield context
    finally:
        context.close()


class Kernel:
    """The kernel of a notebook, asked beside the browser. Playwright owns this thread's loop, so on another thread."""

    def __init__(self, connection: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._client: BlockingKernelClient = self._thread.submit(self._connect, connection).result()

    @staticmethod
    def _connect(connection: Path) -> BlockingKernelClient:
        client = BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(MOST_S)
        return client

    def value(self, expression: str) -> Any:
        """What an expression is in the kernel: a plain value (its repr is read)."""
        return eval(self._thread.submit(self._ask, expression).result())

    def _ask(self, expression: str) -> str:
        reply = self._client.execute("", silent=True, user_expressions={"it": expression}, reply=True, timeout=MOST_S)
        answer = reply["content"]["user_expressions"]["it"]
        assert answer["status"] == "ok", f"{expression}: {answer.get('ename')}: {answer.get('evalue')}"
        return str(answer["data"]["text/plain"])

    def close(self) -> None:
        """Let go of it; it goes on."""
        self._thread.submit(self._client.stop_channels).result()
        self._thread.shutdown()


@dataclass
class Notebook:
    """A notebook open in the browser."""

    lab: Lab
    page: Page
    name: str
    pictures: Path
    _kernel: Kernel | None = field(default=None, repr=False)

    def find(self, css: str) -> Locator:
        """What is shown under a class of ours, such as `lrw-run-step`."""
        return self.page.locator(f".{css}")

    def text(self, css: str) -> str:
        """The words that a control shows."""
        return self.find(css).first.inner_text()

    def wait_text(self, css: str, pattern: str, most_s: float = MOST_S) -> str:
        """The words of a control, once they hold a pattern."""
        return str(wait_until(lambda: self._matching(css, pattern), f"{pattern!r} in {css}", most_s))

    def _matching(self, css: str, pattern: str) -> str:
        words = self.find(css).first.inner_text() if self.find(css).count() else ""
        return words if re.search(pattern, words) else ""

    def start_cell(self, number: int) -> None:
        """Have the nth cell of code, from 0, done; do not wait for it."""
        self.page.evaluate(RUN, number)

    def run_cell(self, number: int, most_s: float = MOST_S) -> None:
        """Run a cell to its end; fails with its error."""
        self.start_cell(number)
        self.wait_cell(number, most_s)

    def wait_cell(self, number: int, most_s: float = MOST_S) -> None:
        """Wait for the end of a cell; fails with its error."""
        ended = wait_until(lambda: self.page.evaluate("n => lrw_ended[n]", number), f"the end of cell {number}", most_s)
        assert ended == "well", self.page.locator(".jp-CodeCell").nth(number).inner_text()

    def is_running(self, number: int) -> bool:
        """Whether a cell has not ended."""
        return not self.page.evaluate("n => lrw_ended[n]", number)

    def wait_idle(self, most_s: float = MOST_S) -> None:
        """Wait until the kernel has nothing to do."""
        indicator = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        wait_until(lambda: indicator.count() > 0, "an idle kernel", most_s)

    def screenshot(self, name: str, css: str | None = None) -> Path:
        """Write a picture of the page, or of what is under a class."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{name}.png"
        (self.page if css is None else self.find(css).first).screenshot(path=path)
        return path

    @property
    def kernel(self) -> Kernel:
        """Its kernel."""
        if self._kernel is None:
            (session,) = (s for s in self.lab.ask("GET", "sessions") if s["path"] == self.name)
            self._kernel = Kernel(self.lab.runtime / f"kernel-{session['kernel']['id']}.json")
        return self._kernel

    def open(self) -> None:
        """Show the notebook, or reload it; its kernel goes on.

        On a busy machine JupyterLab can lose its first request to a kernel and waits for ever: it is reloaded once.
        """
        self._load()
        try:
            self.wait_idle()
        except AssertionError:
            self._load()
            self.wait_idle()

    def _load(self) -> None:
        """Load the page and wait for its cells."""
        self.page.goto(f"{self.lab.url}/doc/tree/{self.name}?token={TOKEN}")
        self.page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.ready")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()

    def close(self) -> None:
        """Close the page and end its kernel."""
        if self._kernel is not None:
            self._kernel.close()
        self.page.close()
        self.lab.end_kernels()


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of cells of code."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
