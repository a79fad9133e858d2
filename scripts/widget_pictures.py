"""Take the pictures in docs/images/widgets: run notebook 02 in JupyterLab and save each widget that a cell shows.

Run `PYTHONPATH=. .venv/bin/python scripts/widget_pictures.py` after changes of the widgets.
"""

import re
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.lrwidgets.jupyter.lab import Notebook, browse, serve

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "notebooks" / "02_mask_fulcrum_priors.ipynb"
PICTURES = ROOT / "docs" / "images" / "widgets"
WIDGET = re.compile(r"= (SliceView|\w+Widget)\(")
CHROMIUM = "/usr/bin/chromium"
SETTLE_MS = 3000


def take(notebook: Notebook, sources: list[str]) -> None:
    """Run the cells in order, and take a picture of the output of each that shows a widget."""
    for number, source in enumerate(sources):
        notebook.run_cell(number, 300)
        if match := WIDGET.search(source):
            notebook.page.wait_for_timeout(SETTLE_MS)
            output = notebook.page.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea-output")
            output.locator(".widget-box").first.screenshot(path=PICTURES / f"{match.group(1)}.png")


def main() -> None:
    """Take all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, serve(Path(name) / "lab", "perCommTarget") as lab:
        shutil.copy(SOURCE, lab.folder)
        with sync_playwright() as playwright, browse(playwright, CHROMIUM, Path(name) / "profile", []) as tab:
            notebook = Notebook(lab, tab.new_page(), SOURCE.name, Path(name))
            notebook.open()
            kinds = "jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === 'code')"
            sources = notebook.page.evaluate(f"() => {kinds}.map(cell => cell.model.sharedModel.source)")
            take(notebook, sources)
            notebook.close()


if __name__ == "__main__":
    main()
