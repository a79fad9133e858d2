"""The demo's frame with a made-up engine, and its judgement by the truth."""

import json
import os
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.rotations import rotation_exp
from lrcore.records import Poses
from lrwidgets.cli import main
from lrwidgets.cli.demo import DATA, PRESENCE_ROWS, REALISTIC_DATA, ROWS, compare_with_truth, run_demo
from lrwidgets.cli.printer import Printer
from tests.fakes import FakeEngine, make_job, make_step


@pytest.mark.parametrize("as_json", [False, True])
def test_it_writes_all_and_tells_before_and_after(as_json: bool, tmp_path: Path) -> None:
    out, text = tmp_path / "demo", StringIO()
    data = {**DATA, "box": 40, "pixel_size_A": 4.6}
    found = run_demo(out, Printer(as_json, text), particles=12, engine=FakeEngine(), data=data)
    assert {"data", "run.zarr", "particles.star", "maps"} <= set(os.listdir(out))
    assert {"overview.png", "slices.png", "fsc.png", "changes.png", "uncertainty.png"} <= set(os.listdir(out))
    assert len(io.read_particles(out / "particles.star")) == 12
    assert found["before"].keys() == found["after"].keys() == ROWS.keys()
    lines = text.getvalue().splitlines()
    if as_json:
        records = [json.loads(line) for line in lines]
        assert [r["event"] for r in records] == ["simulated", *["iteration"] * 5, "judged", "end"]
        assert records[-2]["after"] == pytest.approx(found["after"])
    else:
        assert any(line.startswith(ROWS["angle_error_deg"]) for line in lines)
    with pytest.raises(InputError, match="exists already"):
        run_demo(out, Printer(as_json, text), particles=12, engine=FakeEngine(), data=data)


def test_a_realistic_demo_says_what_its_images_show(tmp_path: Path) -> None:
    text = StringIO()
    data = {**REALISTIC_DATA, "box": 40, "pixel_size_A": 4.6}
    found = run_demo(tmp_path / "demo", Printer(False, text), particles=25, engine=FakeEngine(), data=data)
    assert found["before"].keys() == found["after"].keys() == {**ROWS, **PRESENCE_ROWS}.keys()
    lines = text.getvalue().splitlines()
    assert "3 of the images are junk, 5 show the particle without the body" in lines
    assert any(line.startswith(PRESENCE_ROWS["without_body_percent"]) for line in lines)
    truth = np.load(tmp_path / "demo" / "data" / "truth.npz")
    assert np.count_nonzero(truth["junk"]) == 3


@pytest.mark.parametrize(("options", "data"), [([], DATA), (["--realistic"], REALISTIC_DATA)])
def test_the_option_decides_on_the_data(
    options: list[str], data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("lrwidgets.cli.demo.run_demo", lambda *args, **named: calls.append(named))
    assert main(["demo", "--out", str(tmp_path / "demo"), *options]) == 0
    assert calls[0]["data"] is data


def test_errors_are_those_of_the_images_with_the_body() -> None:
    job = make_job()
    step = make_step(job, make_step(job))
    poses = step.expectation.poses
    present = np.arange(len(poses)) >= 3
    turn = np.zeros((len(poses), 3))
    turn[:3, 2] = np.radians(50.0)
    truth = Poses(poses.rotation @ rotation_exp(turn), poses.origin_A)
    seen = compare_with_truth(job, step, truth, step.half_maps.first, present)
    assert seen["above_5_deg_percent"] == 0.0
    assert compare_with_truth(job, step, truth, step.half_maps.first)["above_5_deg_percent"] > 0.0
    said = replace(step, expectation=replace(step.expectation, presence=np.where(np.arange(len(poses)) < 2, 0.1, 0.9)))
    measured = compare_with_truth(job, said, truth, step.half_maps.first, present)
    assert measured["without_body_percent"] == pytest.approx(100 * 2 / len(poses))
    assert measured["wrong_presence_percent"] == pytest.approx(100 * 1 / len(poses))


def test_a_judgement_is_zero_for_the_truth_and_what_it_is_otherwise() -> None:
    job = make_job()
    step = make_step(job, make_step(job))
    poses = step.expectation.poses
    same = compare_with_truth(job, step, poses, step.half_maps.first)
    assert same["angle_error_deg"] == pytest.approx(0, abs=1e-5)
    assert same["shift_error_A"] == pytest.approx(0, abs=1e-9)
    turned = Poses(poses.rotation @ rotation_exp(np.tile([0.0, 0.0, np.radians(6.0)], (len(poses), 1))), poses.origin_A)
    other = compare_with_truth(job, step, turned, step.half_maps.first)
    assert other["angle_error_deg"] == pytest.approx(6)
    assert other["above_5_deg_percent"] == 100
    assert other["shift_error_A"] > 0.1
