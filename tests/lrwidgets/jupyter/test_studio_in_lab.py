"""What a person does with Studio, in JupyterLab and a browser, with both ways that messages reach the kernel."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lrwidgets.example import Example, make_example
from tests.lrwidgets.jupyter.lab import LAPTOP, ROOT, Lab, Notebook, wait_until, write_notebook

TIMED = """
import time, ipywidgets
took, handle = [], ipywidgets.Widget._handle_msg

def timed(self, message):
    began = time.perf_counter()
    handle(self, message)
    took.append((time.perf_counter() - began, type(self).__name__, message["content"]["data"].get("method")))

ipywidgets.Widget._handle_msg = timed
"""
"""Before any widget is made: how long each callback keeps the browser waiting."""
LOAD = """
from lrwidgets.example import make_example
from lrwidgets.jupyter import Studio
from lrwidgets.session.session import Session

files = make_example("example")
session = Session.load(files.particles, files.mask, files.half_maps)
studio = Studio(session)
studio
"""
BLOCK = """
session.run()
print("blocked", flush=True)
while session.state.phase != "idle":
    time.sleep(0.05)
"""
STOPPED_S = 3.0
"""How long *Stop* may take on a machine that has its cores to itself."""
BLOCKING_S = 0.1
SUBSHELLS_ON = pytest.mark.parametrize("lab", ["perCommTarget"], indirect=True)
"""For what does not depend on the setting: as JupyterLab comes."""
SUBSHELLS_OFF = pytest.mark.parametrize("lab", ["disabled"], indirect=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The example, smaller."""
    return make_example(tmp_path_factory.mktemp("studio") / "example", particles=300)


@pytest.fixture
def folder(lab: Lab, files: Example) -> Iterator[Path]:
    """The server's folder, with the example in it and nothing else."""
    shutil.copytree(files.folder, lab.folder / "example")
    yield lab.folder
    lab.end_kernels()
    for path in lab.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def tab(notebook: Notebook, name: str) -> None:
    """Open a tab of Studio."""
    notebook.page.locator(".lrw-tabs .lm-TabBar-tabLabel").get_by_text(name, exact=True).click()
    notebook.find(f"lrw-tab-{name.lower()}").wait_for()


def at_rest(notebook: Notebook, most_s: float = 180.0) -> str:
    """Wait until the run rests, and say how it came to."""
    return notebook.wait_text("lrw-run-status", "ready", most_s)


def step(notebook: Notebook, iteration: int) -> None:
    """Press *Step* and wait for the line of that iteration."""
    notebook.find("lrw-run-step").click()
    notebook.wait_text("lrw-run-history", rf"(?m)^\s*{iteration}\s", 120)
    at_rest(notebook)


def choose_step(notebook: Notebook, number: int) -> None:
    """Choose the nth step of the tree."""
    notebook.find("lrw-run-tree").locator("select").select_option(index=number)


def picture(notebook: Notebook, css: str) -> str:
    """What the slice across z shows, below a class."""
    return str(notebook.find(css).locator(".lrw-slices-xy").evaluate("canvas => canvas.toDataURL()"))


def curves(notebook: Notebook) -> int:
    """Number of curves of the FSC inside the mask in the figure that is shown."""
    axes = notebook.kernel.value("studio.parts['Inspect'].figure.axes")
    return len([series for series in axes[1]["series"] if series["label"]]) if len(axes) > 1 else 0


def press_stop(notebook: Notebook) -> None:
    """Press *Stop*, which is obeyed soon: later by as much as others keep us waiting for a core."""
    crowd = max(1.0, (os.getloadavg()[0] - 2) / len(os.sched_getaffinity(0)))  # two threads are our own
    began = time.monotonic()
    notebook.find("lrw-run-stop").click()
    at_rest(notebook)
    taken = time.monotonic() - began
    print(f"at rest {taken:.1f} s after stop was pressed; limit {STOPPED_S * crowd:.1f} s")
    assert taken < STOPPED_S * crowd


@SUBSHELLS_ON
def test_a_refinement_from_the_first_look_to_the_export(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    quickstart = json.loads((ROOT / "notebooks" / "01_quickstart.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in quickstart["cells"] if cell["cell_type"] == "code"]
    shutil.copy(ROOT / "notebooks" / "01_quickstart.ipynb", folder)
    notebook = open_notebook("01_quickstart.ipynb")
    shown = next(number for number, cell in enumerate(cells) if "Studio(" in cell)
    for number in range(shown + 1):
        notebook.run_cell(number)
    notebook.find("lrw-studio").wait_for()
    notebook.find("lrw-studio").scroll_into_view_if_needed()
    notebook.screenshot("01-opened")
    shape_the_mask(notebook)
    place_the_fulcrum(notebook)
    run_two_steps(notebook)
    try_settings(notebook)
    stop_a_step(notebook)
    rewind_branch_compare(notebook)
    export(notebook, folder)


@SUBSHELLS_OFF
def test_a_mask_is_shaped_and_a_run_is_stopped_without_subshells(
    folder: Path, open_notebook: Callable[..., Notebook]
) -> None:
    notebook = open_notebook("without.ipynb", LOAD)
    notebook.run_cell(0)
    shape_the_mask(notebook)
    place_the_fulcrum(notebook)
    tab(notebook, "Run")
    step(notebook, 1)
    stop_a_step(notebook)


def shape_the_mask(notebook: Notebook) -> None:
    """Move the threshold by the keyboard, see the overlay change, and undo."""
    tab(notebook, "Mask")
    notebook.wait_text("lrw-mask-facts", "box")
    notebook.screenshot("02-mask")
    before, facts = picture(notebook, "lrw-mask"), notebook.text("lrw-mask-facts")
    handle = notebook.find("lrw-mask-threshold").locator(".lrw-number-range")
    handle.focus()
    for _ in range(20):
        handle.press("ArrowRight")
    wait_until(lambda: picture(notebook, "lrw-mask") != before, "another overlay")
    wait_until(lambda: notebook.text("lrw-mask-facts") != facts, "other facts of the mask")
    moved = notebook.kernel.value("studio.parts['Mask'].settings.threshold")
    assert moved == pytest.approx(float(handle.get_attribute("aria-valuetext") or "nan"), rel=1e-6)
    notebook.screenshot("03-threshold-moved")
    wait_until(lambda: undone(notebook), "the settings from before", every_s=0.5)


def undone(notebook: Notebook) -> bool:
    """Press *undo* once more, where the threshold has rested on its way: whether that was the last time."""
    notebook.find("lrw-mask-undo").click()
    return bool(notebook.kernel.value("studio.parts['Mask'].settings.found"))


def place_the_fulcrum(notebook: Notebook) -> None:
    """Drag it, read in the kernel where it is, and put it back."""
    tab(notebook, "Fulcrum")
    canvas = notebook.find("lrw-fulcrum").locator(".lrw-slices-xy")
    wait_until(lambda: "mask" in notebook.find("lrw-fulcrum-text").locator("input").input_value(), "the fulcrum")
    notebook.screenshot("04-fulcrum")
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    notebook.page.mouse.move(x, y)
    notebook.page.mouse.down()
    notebook.page.mouse.move(x + 30, y + 20, steps=8)
    notebook.page.mouse.up()
    field = notebook.find("lrw-fulcrum-text").locator("input")
    wait_until(lambda: field.input_value().endswith("px"), "the dragged point")
    notebook.find("lrw-fulcrum-apply").click()
    applied = wait_until(
        lambda: notebook.kernel.value("session.spec.fulcrum != 'mask' and session.spec.fulcrum"), "the new fulcrum"
    )
    wait_until(lambda: field.input_value() == applied, "the field to say it, too")
    notebook.screenshot("05-fulcrum-dragged")
    notebook.find("lrw-fulcrum-mask").click()
    wait_until(lambda: field.input_value() == "mask", "the fulcrum in the mask")
    notebook.find("lrw-fulcrum-apply").click()
    wait_until(lambda: notebook.kernel.value("session.spec.fulcrum") == "mask", "the fulcrum of before")


def run_two_steps(notebook: Notebook) -> None:
    """Two steps, each a new line, a new FSC curve and new histograms."""
    tab(notebook, "Run")
    notebook.screenshot("06-before-the-first-step")
    step(notebook, 1)
    tab(notebook, "Inspect")
    wait_until(lambda: curves(notebook) == 2, "the curves of the start and one step")
    notebook.screenshot("07-inspect-one-step")
    tab(notebook, "Run")
    step(notebook, 2)
    notebook.screenshot("08-two-steps")
    tab(notebook, "Inspect")
    wait_until(lambda: curves(notebook) == 3, "the curves of the start and two steps")
    notebook.screenshot("09-inspect-fsc")
    image = notebook.find("lrw-inspect-figure").locator("img")
    for name in ("Pose changes", "Uncertainty", "Directions", "Guinier", "Before / after"):
        before = image.get_attribute("src")
        notebook.find("lrw-inspect-what").get_by_text(name, exact=True).click()
        wait_until(lambda seen=before: image.get_attribute("src") != seen, f"the figure {name}")
        notebook.screenshot(f"10-inspect-{name.lower().replace(' ', '-').replace('/', 'and')}")
    tab(notebook, "Priors")
    notebook.find("lrw-prior-figure").locator("img").wait_for()
    notebook.screenshot("11-priors")


def try_settings(notebook: Notebook) -> None:
    """Sweep over two widths of the prior, and have the worse one used."""
    tab(notebook, "Sweep")
    given = notebook.kernel.value("session.spec.rotation_prior_sd_deg")
    for css, typed in (("lrw-sweep-values-0", "2, 8"), ("lrw-sweep-subset", "150")):
        notebook.find(css).locator("input").fill(typed)
        notebook.find(css).locator("input").press("Enter")
    notebook.screenshot("11-sweep")
    notebook.find("lrw-sweep-start").click()
    image = notebook.find("lrw-sweep-figure").locator("img")
    image.wait_for()
    notebook.screenshot("11-swept")
    notebook.find("lrw-sweep-best").locator("select").select_option(index=1)
    notebook.find("lrw-sweep-use").click()
    wait_until(
        lambda: notebook.kernel.value("session.spec.rotation_prior_sd_deg") in (2, 8), "the width that was tried"
    )
    notebook.wait_text("lrw-sweep", "from the next iteration")
    notebook.kernel.value(f"str(session.edit(rotation_prior_sd_deg={given}))")


def stop_a_step(notebook: Notebook) -> None:
    """*Stop* during a run is obeyed soon, and the panel goes on."""
    tab(notebook, "Run")
    notebook.find("lrw-run-run").click()
    notebook.wait_text("lrw-run-progress", "particles")
    notebook.screenshot("12-running")
    press_stop(notebook)
    assert "stopped" in at_rest(notebook)
    notebook.screenshot("13-stopped")


def rewind_branch_compare(notebook: Notebook) -> None:
    """Back to the first step, another way on from there, advice taken, and two steps side by side."""
    steps = notebook.kernel.value("len(session.state.tree)")
    choose_step(notebook, 1)
    notebook.find("lrw-run-rewind").click()
    notebook.wait_text("lrw-run-status", "at iteration 1")
    tab(notebook, "Priors")
    extent = notebook.find("lrw-prior-rotation-extent").locator("input")
    extent.fill("2")
    extent.press("Enter")
    wait_until(lambda: notebook.kernel.value("session.spec.rotation_extent_deg") == 2, "the narrow extent")
    tab(notebook, "Run")
    notebook.wait_text("lrw-run-unrun", "2")
    notebook.screenshot("14-rewound-and-edited")
    step(notebook, 2)
    assert notebook.kernel.value("len(session.state.tree)") == steps + 1
    apply = notebook.page.locator("[class*='lrw-run-advice-apply-']").first
    apply.wait_for()
    notebook.screenshot("15-advice")
    apply.click()
    notebook.wait_text("lrw-run-unrun", "→")
    notebook.wait_text("lrw-run-status", "at iteration")  # 2, or 0 for advice that starts again
    step(notebook, notebook.kernel.value("session.state.iteration + 1"))
    choose_step(notebook, 0)
    notebook.find("lrw-run-compare").click()
    notebook.find("lrw-tab-inspect").wait_for()
    image = notebook.find("lrw-inspect-figure").locator("img")
    wait_until(lambda: "→" in (image.get_attribute("alt") or ""), "both steps side by side")
    notebook.screenshot("16-compared")


def export(notebook: Notebook, folder: Path) -> None:
    """Write all there is."""
    tab(notebook, "Export")
    notebook.find("lrw-export-cs").locator("input").check()
    notebook.screenshot("17-export")
    notebook.find("lrw-export-go").click()
    wait_until(lambda: "wrote" in notebook.find("lrw-export").inner_text(), "the word that all is written")
    names = {path.name for path in (folder / "refined").iterdir()}
    assert {"particles.star", "particles.cs", "particles.csg", "maps"} <= names
    notebook.screenshot("18-exported")


@pytest.mark.alone
def test_stop_is_heard_while_a_cell_blocks_the_kernel(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("blocked.ipynb", TIMED + LOAD, BLOCK)
    notebook.run_cell(0)
    tab(notebook, "Run")
    step(notebook, 1)
    notebook.start_cell(1)
    notebook.page.get_by_text("blocked", exact=True).wait_for()
    notebook.wait_text("lrw-run-progress", "particles")
    assert notebook.is_running(1)
    press_stop(notebook)
    notebook.wait_cell(1)
    assert "stopped" in at_rest(notebook)
    step(notebook, notebook.kernel.value("session.state.iteration + 1"))


@pytest.mark.alone
@SUBSHELLS_ON
def test_no_callback_keeps_the_browser_waiting(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("waits.ipynb", TIMED + LOAD)
    notebook.run_cell(0)
    tab(notebook, "Mask")
    notebook.wait_text("lrw-mask-facts", "box")
    handle = notebook.find("lrw-mask-threshold").locator(".lrw-number-range")
    handle.focus()
    slow = moved_for_a_while(notebook, handle)
    if slow:  # the machine may have been busy with something else, once
        slow = moved_for_a_while(notebook, handle)
    assert slow == []
    assert notebook.kernel.value("len(took)") > 20


def moved_for_a_while(notebook: Notebook, handle: Any) -> Any:
    """Move a slider 200 times in 5 s; the callbacks that took long."""
    notebook.kernel.value("took.clear()")
    began = time.monotonic()
    for number in range(200):
        handle.press("ArrowRight" if number % 40 < 30 else "ArrowLeft")
        wait_until(lambda due=began + number * 0.025: time.monotonic() >= due, "the next move", every_s=0.001)
    last = handle.get_attribute("aria-valuetext")
    at = "studio.parts['Mask']"
    wait_until(lambda: notebook.kernel.value(f"abs({at}.settings.threshold - {last}) < 1e-9"), "the last value", 5)
    assert notebook.kernel.value(f"{at}.flush(5)")
    assert notebook.find("lrw-mask").locator(".lrw-message").all_inner_texts() == ["", ""]
    return notebook.kernel.value(f"[t for t in took if t[0] > {BLOCKING_S}]")


@SUBSHELLS_ON
def test_it_is_closed_and_opened_again_during_a_run(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    load = LOAD.replace("files.half_maps)", "files.half_maps, out='run.zarr')").replace(
        "studio = Studio(session)\nstudio", ""
    )
    look = "again = Studio(Session.open('run.zarr'))\nagain"
    notebook = open_notebook("reopened.ipynb", load, "studio = Studio(session)\nstudio", look)
    notebook.run_cell(0)
    notebook.run_cell(1)
    tab(notebook, "Run")
    notebook.find("lrw-run-run").click()
    notebook.wait_text("lrw-run-history", r"(?m)^\s*0\s", 120)
    notebook.page.goto("about:blank")
    done = notebook.kernel.value("len(session.state.tree)")
    wait_until(lambda: notebook.kernel.value("len(session.state.tree)") > done, "the run to go on", 120)
    notebook.open()
    notebook.run_cell(1)
    tab(notebook, "Run")
    notebook.wait_text("lrw-run-history", rf"(?m)^\s*{done}\s")
    if "running" in notebook.text("lrw-run-status"):
        press_stop(notebook)
    notebook.run_cell(2)
    second = notebook.page.locator(".lrw-run-history").nth(1)
    wait_until(lambda: re.search(rf"(?m)^\s*{done}\s", second.inner_text()), "the steps of the run in a second panel")
    notebook.lab.end_kernels()  # as a crash does: nothing is closed
    run = "session = Session.open('run.zarr')\nstudio = Studio(session)\nstudio"
    write_notebook(folder / "restarted.ipynb", LOAD.split("files =")[0] + run)
    steps = len(list((folder / "run.zarr" / "steps").glob("0*")))
    again = open_notebook("restarted.ipynb")
    again.run_cell(0)
    assert again.kernel.value("len(session.state.tree)") == steps
    assert again.kernel.value("session.state.iteration") >= done


@SUBSHELLS_ON
def test_two_sessions_in_one_kernel(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    second = LOAD.split("files =")[0] + (
        "other = Session.load(files.particles, files.whole_mask, files.half_maps)\npanel = Studio(other)\npanel"
    )
    notebook = open_notebook("two.ipynb", LOAD, second)
    notebook.run_cell(0)
    notebook.run_cell(1)
    for number in (0, 1):
        panel = notebook.page.locator(".lrw-studio").nth(number)
        panel.locator(".lm-TabBar-tabLabel").get_by_text("Run", exact=True).click()
        panel.locator(".lrw-run-step").click()
    for number in (0, 1):
        history = notebook.page.locator(".lrw-run-history").nth(number)
        wait_until(lambda seen=history: re.search(r"(?m)^\s*1\s", seen.inner_text()), "a step", 120)
    found = notebook.kernel.value(
        "[[s.resolution_masked_A for s in each.state.summaries] for each in (session, other)]"
    )
    assert [len(own) for own in found] == [2, 2]
    assert found[0] != found[1]
    assert notebook.kernel.value("session.mask is not other.mask")


@SUBSHELLS_ON
def test_errors_are_sentences_and_the_session_goes_on(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    code = "from lrwidgets.jupyter import Studio\nstudio = Studio()\nstudio"
    notebook = open_notebook("errors.ipynb", code)
    notebook.run_cell(0)
    typed(notebook, "lrw-data-particles", "example/particles.star")
    typed(notebook, "lrw-data-mask", "example/none.mrc")
    notebook.find("lrw-data-load").click()
    wait_until(lambda: "none.mrc" in notebook.find("lrw-data").inner_text(), "what is wrong with the mask")
    notebook.screenshot("20-bad-mask")
    typed(notebook, "lrw-data-mask", "example/mask_b.mrc")
    notebook.find("lrw-data-load").click()
    notebook.find("lrw-run").wait_for(state="attached")
    stack = folder / "example" / "particles.mrcs"
    stack.rename(folder / "gone.mrcs")
    tab(notebook, "Run")
    notebook.find("lrw-run-step").click()
    wait_until(lambda: "particles.mrcs" in notebook.find("lrw-run").inner_text(), "that the stack is gone")
    notebook.screenshot("21-stack-gone")
    (folder / "gone.mrcs").rename(stack)
    step(notebook, 1)
    assert "particles.mrcs" not in notebook.find("lrw-run").inner_text()


def typed(notebook: Notebook, css: str, text: str) -> None:
    """Type into a field, and leave it."""
    field = notebook.find(css).locator("input")
    field.fill(text)
    field.press("Tab")


@SUBSHELLS_ON
def test_the_demo_fits_a_laptop(folder: Path, open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("demo.ipynb", "from lrwidgets.jupyter import Studio\nstudio = Studio()\nstudio")
    notebook.run_cell(0)
    notebook.find("lrw-data-demo").click()
    notebook.find("lrw-mask").wait_for(state="attached", timeout=180e3)
    notebook.page.set_viewport_size(LAPTOP)
    box: Any = notebook.find("lrw-studio").bounding_box()
    for name in ("Mask", "Fulcrum", "Priors", "Run", "Inspect", "Export"):
        tab(notebook, name)
        box = notebook.find("lrw-studio").bounding_box()
        assert box["height"] < LAPTOP["height"], name
        assert box["width"] < LAPTOP["width"], name
    notebook.screenshot("22-laptop")
