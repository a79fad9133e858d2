"""Models of the panels without any toolkit: what they ask of a session, and what they have a view show."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrcore import io
from lrcore.analysis.advice.finding import Finding
from lrcore.errors import InputError
from lrcore.masks import soft_sphere
from lrcore.records import Volume
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.gui import fulcrum_model
from lrwidgets.gui.data_model import FILES, DataModel, description_html, found_rows
from lrwidgets.gui.export_model import EXPORT_FILE_NAMES, ExportModel
from lrwidgets.gui.fulcrum_model import FulcrumModel
from lrwidgets.gui.inspect_model import InspectModel
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.gui.parameter_form import ParameterFormModel, control_kind, field_value
from lrwidgets.gui.prior_model import PriorModel, recentring_warning
from lrwidgets.gui.run_model import RunModel, pending_text, tree_label
from lrwidgets.gui.sweep_model import SweepModel
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import TreeRow, make_view_state
from lrwidgets.text.fields import parameter_field
from tests.fakes import BOX, PIXEL, FakeEngine, make_mask
from tests.lrwidgets.conftest import make_files
from tests.lrwidgets.gui.panels import FakePanel, FakeView

MODELS = ("data", "export", "fulcrum", "inspect", "prior", "run", "sweep")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def settle(panel: FakePanel, session: Session) -> None:
    """The session has announced everything, and the view was told of it."""
    session._do(lambda: None, True)
    assert panel.flush()


@pytest.mark.parametrize("module", ["panel_base", "parameter_form", "mask_settings", *(f"{m}_model" for m in MODELS)])
def test_a_model_imports_no_toolkit(module: str) -> None:
    toolkits = "{'ipywidgets', 'anywidget', 'IPython', 'qtpy', 'PyQt6', 'PySide6', 'napari', 'superqt'}"
    code = f"import sys, lrwidgets.gui.{module}; print(sorted({toolkits} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- panel_base


def test_errors_become_a_sentence_and_subscriptions_end(panel: FakePanel, session: Session) -> None:
    def fails() -> None:
        raise InputError("mask.mrc: no such file")

    panel.catch_errors(fails)()
    assert (panel.text, panel.tone) == ("mask.mrc: no such file", "bad")
    seen: list[Any] = []
    panel.subscribe(session.spec_changed, seen.append)
    session.edit(rotation_prior_sd_deg=2.0)
    settle(panel, session)
    panel.disconnect_all()
    session.edit(rotation_prior_sd_deg=3.0)
    settle(panel, session)
    assert [spec.rotation_prior_sd_deg for spec in seen] == [2.0]


def test_what_a_program_changes_is_known_on_its_thread_only() -> None:
    silent, elsewhere = ProgrammaticChange(), []
    with silent():
        with silent():
            assert silent.is_active
        assert silent.is_active
        thread = threading.Thread(target=lambda: elsewhere.append(silent.is_active))
        thread.start()
        thread.join()
    assert elsewhere == [False]
    assert not silent.is_active


# --- parameter_form


def test_kind_and_value_of_a_control() -> None:
    spec = RefineSpec()
    kinds = {"prior": "choice", "marginalize": "switch", "rotation_prior_sd_deg": "slider", "shift_extent_A": "text"}
    assert {name: control_kind(parameter_field(name)) for name in kinds} == kinds
    assert field_value(parameter_field("shift_extent_A"), spec).value == ""
    assert field_value(parameter_field("shift_extent_A"), spec).placeholder == "auto: 9"
    assert field_value(parameter_field("rotation_prior_sd_deg"), spec).value == spec.rotation_prior_sd_deg


def test_a_form_edits_follows_and_refuses(panel: FakePanel, session: Session) -> None:
    shown: dict[str, Any] = {}
    names = ("prior", "rotation_prior_sd_deg", "shift_extent_A", "recenter_shifts")
    form = ParameterFormModel(panel, session, names, lambda name, value: shown.update({name: value.value}))
    form.start()
    assert list(shown) == list(names)
    form.edit("rotation_prior_sd_deg", 0.1 + 0.2)
    form.edit("shift_extent_A", " 6 ")
    settle(panel, session)
    assert (session.spec.rotation_prior_sd_deg, session.spec.shift_extent_A) == (0.3, 6.0)
    assert (shown["rotation_prior_sd_deg"], shown["shift_extent_A"]) == (0.3, "6")
    shown["shift_extent_A"] = "far"
    with pytest.raises(InputError, match="shift_extent_A"):
        form.edit("shift_extent_A", "far")
    settle(panel, session)
    assert shown["shift_extent_A"] == "6"
    form.edit("shift_extent_A", "")
    session.edit(prior="none")
    settle(panel, session)
    assert session.spec.shift_extent_A is None
    assert shown["prior"] == "none"


def test_showing_a_value_is_no_edit(panel: FakePanel, session: Session) -> None:
    form = ParameterFormModel(panel, session, ("prior",), lambda name, _: form.edit(name, "none"))
    form.start()
    assert session.spec.prior != "none"


# --- prior


def test_recentring_is_warned_of() -> None:
    assert recentring_warning(RefineSpec())[0] == ""
    assert recentring_warning(RefineSpec(recenter_shifts=True))[1] == "neutral"
    assert recentring_warning(RefineSpec(recenter_shifts=True, prior="none"))[1] == "bad"


def test_the_prior_is_drawn_when_spec_or_step_change(panel: FakePanel, session: Session) -> None:
    view = FakeView()
    prior = PriorModel(session, panel, view)
    prior.start()
    settle(panel, session)
    assert view.last("show_warning") == ("", "neutral")
    drawn = len(view.calls["draw"])
    session.edit(recenter_rotations=True)
    settle(panel, session)
    assert len(view.calls["draw"]) > drawn
    assert "Re-centred" in view.last("show_warning")[0]
    assert len(prior.figure(narrow=True).axes) == 2
    prior.use_widths()
    assert session.spec.prior == "gaussian"


# --- run


def test_a_run_is_driven_and_shown(panel: FakePanel, session: Session) -> None:
    view = FakeView()
    run = RunModel(session, panel, view)
    run.start()
    run.run("2")
    wait_until(lambda: session.state.phase == "idle" and len(session.state.tree) == 3)
    settle(panel, session)
    (state,) = view.last("show_state")
    assert (state.busy, state.paused) == (False, False)
    rows, selected = view.last("show_tree")
    assert [row.is_present for row in rows] == [False, False, True]
    assert selected == session.state.node
    assert view.last("show_history")[0].count("<tr") == 2 + 3
    with pytest.raises(InputError, match="whole number"):
        run.run("two")
    with pytest.raises(InputError, match="no step is selected"):
        run.rewind()


def test_a_run_with_nothing_to_do_says_why_and_goes_on_after_a_change(panel: FakePanel, session: Session) -> None:
    view = FakeView()
    run = RunModel(session, panel, view)
    run.start()
    session.run(wait=True)
    steps = len(session.state.tree)
    run.run("")
    wait_until(lambda: session.state.message.startswith("nothing to run"))
    settle(panel, session)
    (state,) = view.last("show_state")
    assert "nothing to run: converged" in state.status
    assert "Extra final passes" in state.status, "as the form calls it"
    session.edit(rotation_prior_sd_deg=2.0)
    run.run("")
    wait_until(lambda: len(session.state.tree) > steps and session.state.phase == "idle")
    session.branch(session.state.tree[1].id, rotation_prior_sd_deg=3.0, wait=True)
    steps = len(session.state.tree)
    run.run("")
    wait_until(lambda: len(session.state.tree) > steps and session.state.phase == "idle")


def labels(figure: Figure) -> set[str]:
    """Names of the FSC curves, without their resolutions."""
    named = {str(line.get_label()).partition(":")[0] for line in figure.axes[0].lines}
    return {name for name in named if name.endswith(("masked", "corrected"))}


def test_a_preview_shows_what_it_found_beside_the_present_step(panel: FakePanel, session: Session) -> None:
    view = FakeView()
    run = RunModel(session, panel, view)
    run.start()
    session.preview(20, wait=True)
    settle(panel, session)
    (text,) = view.last("show_preview")
    assert text.startswith("Preview of 20 particles, not kept: ")
    assert labels(run.preview_figure()) == {"preview, 20 particles, masked", "preview, 20 particles, corrected"}
    session.run(1, wait=True)
    settle(panel, session)
    assert view.last("show_preview") == ("",), "it was not about this step"
    session.preview(20, wait=True)
    settle(panel, session)
    (text,) = view.last("show_preview")
    assert f"all particles: {session.state.resolutions_A[session.state.node]:.2f} Å" in text
    assert {"present step, masked", "present step, corrected"} <= labels(run.preview_figure(narrow=True))
    assert len(session.state.tree) == 2


def test_an_old_error_is_gone_with_the_next_press(panel: FakePanel, session: Session) -> None:
    press = {name: panel.on_press(act) for name, act in {"bad": lambda: 1 / 0, "good": lambda: None}.items()}
    press["bad"]()
    assert panel.has_error
    press["good"]()
    assert (panel.text, panel.has_error) == ("", False)
    panel.show_message("wrote a.mrc")
    press["good"]()
    assert panel.text == "wrote a.mrc", "what is no error stays"


def test_the_selected_step_is_compared_and_rewound_to(panel: FakePanel, session: Session) -> None:
    session.run(2, wait=True)
    start = session.state.tree[0].id
    view, results = FakeView(selected_node=start), []
    run = RunModel(session, panel, view)
    run.start()
    run.comparison_done.connect(results.append)
    run.compare()
    settle(panel, session)
    assert results[0].names == (start, session.state.node)
    assert results[0].names[0][:9] not in panel.text, "a step has a name, not an id"
    assert "iteration 2" in panel.text
    run.rewind()
    settle(panel, session)
    assert session.state.node == start
    session.edit(rotation_prior_sd_deg=2.0)
    settle(panel, session)
    assert pending_text(view.last("show_state")[0]).startswith("from the next iteration: Rotation prior SD")


def test_advice_has_a_figure_only_if_somebody_can_show_it(panel: FakePanel, session: Session) -> None:
    view = FakeView()
    run = RunModel(session, panel, view, shown_elsewhere=("Before / after",))
    found = (Finding("prior_uneven", "uneven", "prior motion", 3.0, 2.0), Finding("mask_still", "still", "", 0.3, 0.15))
    run.show_findings(found)
    assert [row.figure for row in view.last("show_advice")[0]] == ["", ""]
    run.figure_requested.connect(lambda _: None)
    run.show_findings(found)
    assert [row.figure for row in view.last("show_advice")[0]] == ["Motion", ""]


def test_pause_is_toggled(panel: FakePanel, session: Session) -> None:
    session._engine.gate = gate = threading.Semaphore(0)
    run = RunModel(session, panel, FakeView())
    run.step()
    gate.release()
    run.toggle_pause()
    assert session.state.phase in ("pausing", "paused")
    run.toggle_pause()
    run.stop()
    gate.release(100)
    session.stop(wait=True)
    assert make_view_state(session.spec, session.state).status == "ready: stopped"


def test_a_step_is_a_line_of_the_tree() -> None:
    assert tree_label(TreeRow("a", 2, "iteration 3", True), "--") == "----▶ iteration 3"


# --- sweep


def test_a_sweep_is_ranked_and_taken_over(panel: FakePanel, session: Session) -> None:
    session.run(1, wait=True)
    view = FakeView()
    sweep = SweepModel(session, panel, view)
    sweep.runner.engine = FakeEngine()
    assert sweep.suggested_values(None) == ""
    sweep.start([("marginalize", sweep.suggested_values("marginalize")), ("", "1")], "20")
    assert view.last("show_busy") == (True,)
    assert panel.flush()
    assert view.last("show_busy") == (False,)
    (lines,) = view.last("show_ranking")
    assert len(lines) == 2
    assert "sweep(session, {'marginalize': [False, True]}" in sweep.code()
    assert sweep.figure(narrow=True).axes
    assert panel.text.startswith("marginalize: has no effect on this iteration"), "the made-up engine knows none"
    assert lines[1].endswith("(the same as 1)")
    sweep.use(0)
    sweep.use(1)
    sweep.use(1)
    assert "already in use" in panel.text


def test_a_sweep_that_fails_can_be_repeated(panel: FakePanel, session: Session) -> None:
    session.run(1, wait=True)
    view = FakeView()
    sweep = SweepModel(session, panel, view)
    sweep.start([("prior", "nonesuch")], "20")
    assert panel.flush()
    assert view.last("show_busy") == (False,)
    assert panel.tone == "bad"
    assert sweep.result is None


# --- data and export


def test_files_and_runs_are_opened(panel: FakePanel, tmp_path: Path) -> None:
    files, opened, view = make_files(tmp_path), [], FakeView()
    model = DataModel(panel, view, opened.append)
    fields = dict.fromkeys((name for name, *_ in FILES), "")
    model.load(fields)
    assert panel.flush()
    assert "no particles given" in panel.text
    model.open_run("  ")
    assert panel.flush()
    assert "no run is given" in panel.text
    model.load({**fields, "particles": str(files.star), "mask": str(files.mask)})
    assert panel.flush()
    assert (panel.text, panel.tone) == ("loaded", "good")
    (session,) = opened
    assert view.last("describe") == (session,)
    session.close()
    io.write_volume(files.mask, make_mask())
    model.load({**fields, "particles": str(files.star), "mask": str(files.mask)})
    assert panel.flush()
    assert panel.text.startswith(f"loaded; {files.mask}: the soft edge is 1.0 voxels wide: ")
    assert panel.tone == "bad"
    opened[-1].close()
    io.write_volume(files.mask, Volume(soft_sphere(BOX, 1.5, 3.5), 1.0))  # a voxel size that its program did not know
    model.load({**fields, "particles": str(files.star), "mask": str(files.mask)})
    assert panel.flush()
    assert f"voxel size is {PIXEL:g} Å in the same box" in panel.text
    for size, said in (("no number", "voxel size 'no number': type a number"), (f"{PIXEL}", "loaded")):
        model.load({**fields, "particles": str(files.star), "mask": str(files.mask), "apix": size})
        assert panel.flush()
        assert panel.text.startswith(said)
    assert (panel.text, panel.tone) == ("loaded", "good")
    assert opened[-1].source.apix == PIXEL
    opened[-1].close()


def test_files_without_a_mask_begin_with_an_automatic_one(panel: FakePanel, tmp_path: Path) -> None:
    files, opened = make_files(tmp_path), []
    model = DataModel(panel, FakeView(), opened.append)
    fields = {**dict.fromkeys((name for name, *_ in FILES), ""), "particles": str(files.star)}
    model.load(fields)
    assert panel.flush()
    assert "no mask and no half maps given" in panel.text
    balls = np.exp(-((np.indices((BOX,) * 3) - BOX // 2) ** 2).sum(0) / 6).astype(np.float32)
    for path in files.halves:
        io.write_volume(path, Volume(balls, PIXEL))
    out = tmp_path / "r.zarr"
    model.load({**fields, "halves": ", ".join(map(str, files.halves)), "out": str(out), "subset": "8", "threads": "1"})
    assert panel.flush()
    assert "r_automatic_mask.mrc was made from the half maps: shape it in Mask" in panel.text
    (session,) = opened
    assert session.mask.data[BOX // 2, BOX // 2, BOX // 2] == 1
    assert len(session.job.particles) == 8
    session.close()
    for name, text in (("subset", "many"), ("threads", "0")):
        model.load({**fields, name: text, "mask": str(files.mask)})
        assert panel.flush()
        assert "type a whole number above 0" in panel.text


def test_what_was_found_is_listed(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    with Session.load(files.star, files.mask, files.halves, engine=FakeEngine()) as session:
        rows = found_rows(session)
    assert rows["Mask"] == str(files.mask)
    assert rows["Half maps"] == ", ".join(map(str, files.halves))
    with Session.load(files.star, files.mask, engine=FakeEngine()) as session:
        assert found_rows(session)["Half maps"].startswith("none")
        assert str(files.star) in description_html(session)


def test_other_data_release_the_run_before_and_ask_while_it_runs(panel: FakePanel, tmp_path: Path) -> None:
    files, opened = make_files(tmp_path), []
    model = DataModel(panel, FakeView(), opened.append)
    fields = {**dict.fromkeys((name for name, *_ in FILES), ""), "particles": str(files.star), "mask": str(files.mask)}
    model.load({**fields, "out": str(tmp_path / "a.zarr")})
    assert panel.flush()
    first = opened[-1]
    gate = threading.Semaphore(0)
    first._engine = FakeEngine(gate)
    first.step()
    model.load(fields)
    assert "a refinement is running: press Load again to stop it" in panel.text
    assert panel.flush()
    assert len(opened) == 1
    gate.release(1000)
    wait_until(lambda: first.state.phase == "idle")
    model.load(fields)
    assert panel.flush()
    assert len(opened) == 2
    with pytest.raises(RuntimeError, match="the session is closed"):
        first.step()
    Session.open(tmp_path / "a.zarr", engine=FakeEngine()).close()
    given = Session.load(files.star, files.mask, engine=FakeEngine())
    model.show(given)
    model.load(fields)
    assert panel.flush()
    given.step(wait=True)  # it was opened elsewhere
    given.close()
    opened[-1].close()


def test_a_step_is_exported(panel: FakePanel, tmp_path: Path) -> None:
    files = make_files(tmp_path)
    with Session.load(files.star, files.mask, files.halves, engine=FakeEngine()) as session:
        session.run(1, wait=True)
        model = ExportModel(session, panel)
        model.export("", ["star"])
        assert panel.flush()
        assert "no folder is given" in panel.text
        model.export(str(tmp_path / "out"), [])
        assert panel.flush()
        assert "nothing written" in panel.text
        model.export(str(tmp_path / "out"), ["star", "fsc_xml"])
        assert panel.flush()
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            EXPORT_FILE_NAMES["star"], EXPORT_FILE_NAMES["fsc_xml"],
        }  # fmt: skip


def test_files_in_the_way_are_replaced_only_on_a_second_press(panel: FakePanel, tmp_path: Path) -> None:
    files, out = make_files(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "particles.star").write_text("work of a week")
    with Session.load(files.star, files.mask, files.halves, engine=FakeEngine()) as session:
        session.run(1, wait=True)
        model = ExportModel(session, panel)
        for chosen in (["star"], ["star", "fsc_xml"]):
            model.export(str(out), chosen)
            assert panel.flush()
            assert "particles.star exists: press Export again to replace" in panel.text
            assert (out / "particles.star").read_text() == "work of a week"
        model.export(str(out), ["star", "fsc_xml"])
        assert panel.flush()
        assert panel.text.startswith("wrote")
        assert (out / "particles.star").read_text() != "work of a week"


# --- fulcrum


@pytest.mark.parametrize(("unit", "place"), [("px", (7, 4, 6)), ("A", (17.5, 10, 15)), ("map", (27.5, 6, 17.5))])
def test_a_point_is_written_and_read_in_every_frame(unit: str, place: tuple[float, ...]) -> None:
    volume = Volume(np.zeros((BOX,) * 3, np.float32), PIXEL, (10.0, -4.0, 2.5))
    point = (2.5, -5.0, 0.0)
    assert fulcrum_model.coordinates(volume, point, unit) == pytest.approx(place)
    text = fulcrum_model.format_point(volume, point, unit)
    assert fulcrum_model.parse_fulcrum(volume, text) == text
    assert fulcrum_model.parse_fulcrum(volume, "2.5, -5, 0 centre") == "17.5, 10.0, 15.0 A"
    assert fulcrum_model.parse_fulcrum(volume, "96, 96, 140 Å") == "96, 96, 140 A", "as all labels write it"
    for description, _ in fulcrum_model.UNITS[:3]:
        typed = fulcrum_model.format_point(volume, point, unit, description)
        assert fulcrum_model.parse_fulcrum(volume, typed)
    with pytest.raises(InputError, match="write mask, box, estimate"):
        fulcrum_model.parse_fulcrum(volume, "1, 2 px")
    assert len(fulcrum_model.readout_lines(volume, point)) == 4


def test_an_estimate_is_described_by_its_distance_and_worst_direction() -> None:
    volume = Volume(np.zeros((BOX,) * 3, np.float32), PIXEL)
    line = fulcrum_model.estimate_line(volume, (0, 0, 0), (3.0, 4.0, 0.0), np.diag([1.0, 4.0, 9.0]))
    assert line.endswith("(5.0 Å away); ± 3.0 Å (worst direction)")


def test_a_rotation_moves_the_far_end_by_its_chord() -> None:
    ends = np.array([[0.0, 0.0, 1.0], [10.0, 0.0, 0.0]])
    words, end = fulcrum_model.rotation_effect(ends, (5.0, 0.0, 0.0), (0.0, 0.0, 0.0), 60.0)
    assert end == pytest.approx((10.0, 0.0, 0.0))
    assert words == "60° moves the mask's far end by up to 10.0 Å, its centre by 5.0 Å"


def test_a_fulcrum_is_applied(panel: FakePanel, session: Session) -> None:
    shown: list[Any] = []
    model = FulcrumModel(session, panel, shown.append)
    model.request_estimate()
    assert panel.flush()
    assert shown == [None]
    model.apply("box")
    assert session.spec.fulcrum == "box"
    assert panel.text == "Fulcrum: box centre (from the next iteration)"


# --- inspect


def test_only_what_is_still_chosen_is_shown(panel: FakePanel, session: Session) -> None:
    model, shown = InspectModel(session, panel), []
    assert model.present_node() is None
    assert panel.text == "No results yet: run a step"
    session.run(1, wait=True)
    node = model.present_node()
    assert node == session.state.node
    model.request_maps(node, shown.append)
    model.new_choice()
    assert panel.flush()
    assert shown == []
    model.request_half_maps(node, shown.append)
    assert panel.flush()
    assert [volume.box for volume in shown[0]] == [BOX, BOX]
    assert model.results_figure("FSC", node).axes
    assert model.results_code("FSC", "", session.results(node)) == 'session.results()["fsc"]'
