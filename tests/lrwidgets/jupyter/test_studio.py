"""Studio as a whole, its way in and its way out, in Python alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrcore.analysis.advice.finding import Finding
from lrwidgets.gui.export_model import EXPORT_FILE_NAMES
from lrwidgets.jupyter import Studio
from lrwidgets.jupyter.export import ExportWidget
from lrwidgets.jupyter.inspect import SPECIAL
from lrwidgets.plots.catalogue import FIGURE_OF_FINDING, FIGURES
from lrwidgets.session.session import Session
from tests.fakes import FakeEngine, make_job
from tests.lrwidgets.conftest import make_files
from tests.lrwidgets.jupyter.widgets import all_of, classes_of, wait_until
from tests.validation.advice_scenarios import scenarios


def test_it_has_a_tab_for_each_part_in_the_order_of_work() -> None:
    with Session(make_job(40), engine=FakeEngine()) as session:
        studio = Studio(session)
        assert studio.tabs.titles == ("Data", "Mask", "Fulcrum", "Priors", "Run", "Sweep", "Inspect", "Export")
        wanted = {f"lrw-tab-{name.lower()}" for name in studio.tabs.titles}
        assert wanted <= classes_of(studio.widget)
        studio.close()


def test_it_shows_a_run_that_was_left_at_work_and_closing_it_ends_no_run() -> None:
    with Session(make_job(40), engine=FakeEngine()) as session:
        first = Studio(session)
        session.run(1, wait=True)
        first.close()
        session.run(1, wait=True)
        again = Studio(session)
        assert again.publisher.flush(30)
        assert "40 particles, iteration 2" in again.head.value
        assert again.tabs.titles[again.tabs.selected_index] == "Run"
        again.close()


def test_files_are_loaded_and_mistakes_are_sentences(tmp_path: Path) -> None:
    files, studio = make_files(tmp_path), Studio()
    data = studio.data
    data.load.click()
    wait_until(lambda: "no particles given" in data.message.value, "the sentence")
    data.fields["particles"].value = str(files.star)
    data.load.click()
    wait_until(lambda: "no mask and no half maps given" in data.message.value, "the sentence")
    data.fields["mask"].value = str(tmp_path / "none.mrc")
    data.load.click()
    wait_until(lambda: "none.mrc" in data.message.value, "the sentence")
    assert studio.session is None
    data.fields["mask"].value = str(files.mask)
    data.fields["halves"].value = ", ".join(map(str, files.halves))
    data.load.click()
    wait_until(lambda: studio.session is not None and len(studio.tabs.titles) == 8, "the session")
    assert studio.session is not None
    assert len(studio.session.job.particles) == 10
    assert studio.session.job.half_maps is not None
    assert str(files.star) in data.about.value
    studio.session.close()
    studio.close()


def test_a_run_is_opened(tmp_path: Path) -> None:
    files, out = make_files(tmp_path), tmp_path / "run.zarr"
    with Session.load(files.star, files.mask, files.halves, out=out, engine=FakeEngine()) as session:
        session.run(1, wait=True)
    studio = Studio()
    studio.data.fields["run"].value = str(tmp_path / "no.zarr")
    studio.data.open.click()
    wait_until(lambda: "is not an lrwidgets run" in studio.data.message.value, "the sentence")
    studio.data.fields["run"].value = str(out)
    studio.data.open.click()
    wait_until(lambda: studio.session is not None, "the session")
    assert studio.session is not None
    assert studio.session.state.iteration == 1
    studio.session.close()
    studio.close()


@pytest.fixture
def studio(session: Session) -> Iterator[Studio]:
    session.run(2, wait=True)
    studio = Studio(session)
    yield studio
    studio.close()


def test_a_comparison_opens_in_inspect(studio: Studio) -> None:
    run, inspect = studio.parts["Run"], studio.parts["Inspect"]
    assert run.flush(30)
    run.tree.value = run.session.state.tree[0].id  # type: ignore[attr-defined]
    run.compare.click()  # type: ignore[attr-defined]
    wait_until(lambda: inspect.figure.title.startswith("iteration 0 → 2"), "the figure")  # type: ignore[attr-defined]
    assert studio.tabs.titles[studio.tabs.selected_index] == "Inspect"


def test_the_figure_behind_an_advice_opens_in_inspect(studio: Studio) -> None:
    run, inspect = studio.parts["Run"], studio.parts["Inspect"]
    run.model.show_findings((Finding("prior_uneven", "uneven", "prior motion", 3.0, 2.0, {"prior": "motion"}),))
    (show,) = [one for one in all_of(run.advice) if "lrw-run-advice-show-0" in getattr(one, "_dom_classes", ())]
    show.click()
    wait_until(lambda: inspect.figure_choice.value == "Motion", "the figure")  # type: ignore[attr-defined]
    assert studio.tabs.titles[studio.tabs.selected_index] == "Inspect"


MORE = {"not_converging", "still_improving", "unaligned", "contrast", "body_missing"}
"""Findings that have no scenario."""


def test_every_finding_has_a_figure_that_inspect_can_show() -> None:
    findings = {name for scenario in scenarios() for name in scenario.expected}
    assert set(FIGURE_OF_FINDING) == findings | MORE
    assert set(FIGURE_OF_FINDING.values()) <= {*FIGURES, *SPECIAL}


def test_a_step_is_exported(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    with Session.load(files.star, files.mask, files.halves, engine=FakeEngine()) as session:
        export = ExportWidget(session)
        export.folder.value = str(tmp_path / "a" / "out")
        export.go.click()
        assert export.flush(30)
        assert "has no step yet" in export.message.value
        session.run(1, wait=True)
        for box in export.kinds.values():
            box.value = True
        export.go.click()
        wait_until(lambda: "wrote" in export.message.value, "the files")
        names = {path.name for path in (tmp_path / "a" / "out").iterdir()}
        assert names == {*EXPORT_FILE_NAMES.values(), "particles.csg"}
        export.folder.value = str(files.star)
        export.go.click()
        wait_until(lambda: "File exists" in export.message.value, "the sentence")
        export.close()


@pytest.mark.parametrize("module", ["lrwidgets", "lrwidgets.session.session", "lrwidgets.jupyter", "lrwidgets.plots"])
def test_ipywidgets_comes_only_with_a_widget(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'ipywidgets', 'anywidget', 'k3d'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
