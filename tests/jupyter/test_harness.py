"""The harness itself: a widget of ipywidgets alone, written from a thread, read in the browser and in the kernel."""

from collections.abc import Callable

from tests.jupyter.lab import Notebook

WIDGETS = """
import threading, ipywidgets
label = ipywidgets.Label("at rest").add_class("lrw-try-label")
button = ipywidgets.ToggleButton(description="go").add_class("lrw-try-button")
button.observe(lambda change: threading.Thread(target=setattr, args=(label, "value", "went")).start(), "value")
ipywidgets.VBox([label, button])
"""


def test_a_toggle_reaches_the_kernel_while_a_cell_blocks_it(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("try.ipynb", WIDGETS, "import time\nwhile not button.value:\n    time.sleep(0.05)")
    notebook.run_cell(0)
    assert notebook.text("lrw-try-label") == "at rest"
    if notebook.lab.subshells != "disabled":
        notebook.start_cell(1)
    notebook.find("lrw-try-button").click()
    notebook.wait_text("lrw-try-label", "went")
    assert notebook.kernel.value("button.value") is True
    notebook.screenshot("harness")
