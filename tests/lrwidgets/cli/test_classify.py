"""`lrwidgets classify`: its files, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.io.derived_particles import number_column
from lrwidgets.cli._main import main
from tests.lrcore.classification.test_classes import two_conformers
from tests.lrwidgets.cli.commands import run_json, run_refused

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("--starts", "1", "--annealing", "2", "--max-iterations", "3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration."""
    folder = tmp_path_factory.mktemp("classify")
    job, _ = two_conformers(folder, 120)
    io.write_particles(folder / "table.star", replace(job.particles, source=None), job.particles.poses)
    io.write_volume(folder / "mask.mrc", job.mask)
    files = [str(folder / "table.star"), "--mask", str(folder / "mask.mrc"), "--out", str(folder / "run.zarr")]
    assert main(["refine", *files, "--iterations", "1"]) == 0
    return folder / "run.zarr"


def test_it_writes_maps_particles_and_a_summary(run: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "classes"
    found = run_json(capsys, "classify", run, "--classes", "2", *QUICK, "--empty-class", "--out", out)
    sizes = next(one["sizes"] for one in found if one["event"] == "classes")
    assert sum(sizes.values()) == 120
    particles = io.read_particles(out / "particles.star", run.parent)
    label = number_column(particles, "rlnClassNumber")
    assert label is not None
    assert {str(k): int(np.sum(label == k)) for k in (1, 2, 0)} == sizes
    for name in ("class1.mrc", "class1_half1.mrc", "class1_half2.mrc"):
        assert io.read_volume(out / name).box == 48
    assert "class 2" in (out / "summary.txt").read_text()


def test_several_numbers_are_compared(run: Path, tmp_path: Path, capsys) -> None:
    found = run_json(capsys, "classify", run, "--classes", "1", "2", *QUICK, "--out", tmp_path / "classes")
    curve = next(one for one in found if one["event"] == "class_number")
    assert curve["classes"] == [1, 2]
    assert curve["gain"][0] == 0
    assert curve["chosen"] in (1, 2)


def test_what_it_refuses(run: Path, tmp_path: Path, capsys) -> None:
    out = ("--out", tmp_path / "classes")
    assert "use 6 classes at most" in run_refused(capsys, "classify", run, "--classes", "20", *out)[-1]
    mask = run.parent / "mask.mrc"
    assert "give one map for each class" in run_refused(capsys, "classify", run, "--maps", mask, *out)[-1]
    assert "--maps" in run_refused(capsys, "classify", run, "--classes", "1", "2", "--maps", mask, *out)[-1]
    assert not (tmp_path / "classes").exists()
