"""The demo's frame with a made-up engine, and its judgement by the truth."""

import json
import os
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.rotations import rotation_exp
from lrcore.records import Poses
from lrwidgets.cli.demo import DATA, ROWS, compare_with_truth, run_demo
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
