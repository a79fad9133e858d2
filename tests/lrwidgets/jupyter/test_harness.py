"""The harness itself, and widgets that are heard while a cell blocks the kernel: with ipywidgets alone."""

from collections.abc import Callable

import pytest

from tests.lrwidgets.jupyter.lab import Notebook

WIDGETS = """
import threading, ipywidgets
from lrwidgets.jupyter.subshell import _subshell, route_to_subshell

label = ipywidgets.Label("at rest").add_class("lrw-try-label")
toggle = ipywidgets.ToggleButton(description="go").add_class("lrw-try-toggle")
button = ipywidgets.Button(description="late").add_class("lrw-try-button")
box, heard = ipywidgets.VBox([label]), []

def told(*_):
    heard.append(threading.current_thread().name)
    threading.Thread(target=setattr, args=(label, "value", f"told {len(heard)}")).start()

toggle.observe(told, "value")
button.on_click(told)
route_to_subshell(box)
_subshell().result(10)
box.children = [label, toggle, button]
box
"""
BLOCK = """
import time
print("blocked", flush=True)
while len(heard) < 3:
    time.sleep(0.05)
"""


def test_every_click_is_heard_while_a_cell_blocks_the_kernel(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("try.ipynb", WIDGETS, BLOCK)
    notebook.run_cell(0)
    assert notebook.text("lrw-try-label") == "at rest"
    notebook.start_cell(1)
    notebook.page.get_by_text("blocked", exact=True).wait_for()
    for number, css in enumerate(("lrw-try-toggle", "lrw-try-button", "lrw-try-toggle"), 1):
        notebook.find(css).click()
        notebook.wait_text("lrw-try-label", f"told {number}")
    notebook.wait_cell(1)
    shells = notebook.kernel.value("heard")
    assert len(set(shells)) == 1
    assert shells[0].startswith("subshell-")
    notebook.screenshot("harness")


def test_a_cell_that_fails_is_told(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("fails.ipynb", "1 / 0", "x = [1, 2]")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebook.run_cell(0)
    notebook.run_cell(1)
    assert notebook.kernel.value("x") == [1, 2]
    with pytest.raises(AssertionError, match="NameError"):
        notebook.kernel.value("y")
