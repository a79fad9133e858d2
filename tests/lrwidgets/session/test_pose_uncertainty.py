"""The uncertainty of poses: asked once, kept with the run, and used by what exports, selects and draws."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lrcore import io
from lrwidgets import plots
from lrwidgets.cli._main import main
from lrwidgets.example import make_example
from lrwidgets.session.session import Session

Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration over 120 particles."""
    folder = tmp_path_factory.mktemp("made")
    files = make_example(folder / "example", particles=120)
    out = folder / "run.zarr"
    assert (
        main(["refine", str(files.particles), "--mask", str(files.mask), "--iterations", "1", "--out", str(out)]) == 0
    )
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run.zarr"))


def column(table: Path, name: str) -> list[float]:
    """The numbers in a column of data_particles."""
    lines = table.read_text().partition("data_particles")[2].splitlines()
    labels = [line.split()[0] for line in lines if line.startswith("_")]
    rows = [line.split() for line in lines if len(line.split()) == len(labels)]
    return [float(row[labels.index(name)]) for row in rows]


def column_of_export(run: Path) -> np.ndarray:
    """The rotation SDs that the particles are exported with."""
    table = run.parent / "particles.star"
    assert main(["export", str(run), "--star", str(table), "--overwrite"]) == 0
    return np.array(column(table, "_lrwRotationSd"))


def test_it_is_kept_and_used(run: Path, tmp_path: Path, capsys: Out) -> None:
    before = column_of_export(run)
    netcdf, picture = tmp_path / "sure.nc", tmp_path / "sure.png"
    assert main(["uncertainty", str(run), "--out", str(netcdf), "--plot", str(picture), "--json"]) == 0
    told = next(json.loads(line) for line in capsys.readouterr().out.splitlines() if '"uncertainty"' in line)
    with xr.open_dataset(netcdf) as found:
        sd = np.sqrt((found["rotation_sd"].values ** 2).mean(axis=1))
        assert np.allclose(np.quantile(sd, [0.25, 0.5, 0.75]), told["rotation_sd_quartiles"])
        assert np.all(found["draws"] > 5)
        assert found["covariance"].attrs["unknown_units"].startswith("radian")
    assert picture.read_bytes().startswith(b"\x89PNG")
    after = column_of_export(run)
    assert np.allclose(after, sd, rtol=1e-4)
    assert not np.allclose(after, before, rtol=0.01)
    bound = float(np.median(sd))
    kept = tmp_path / "kept.star"
    assert main(["select", str(run), "--max-angle-sd", str(bound), "--out", str(kept)]) == 0
    assert len(io.read_particles(kept)) == int((sd <= bound).sum())
    with Session.open(run, write=False) as session:
        tree = session.results()
        assert tree["uncertainty"].attrs["iteration"] == 1
        title = plots.uncertainty(tree).get_suptitle()
    assert "sampled from the posterior" in title


def test_it_is_drawn_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session.open(run) as session:
        told: list[int] = []
        first = session.uncertainty(report=lambda progress: told.append(progress.done))
        assert told[-1] == 120
        monkeypatch.setattr("lrwidgets.session.pose_uncertainty.uncertainty", None)
        assert session.uncertainty().identical(first)
    with Session.open(run, write=False) as session:
        assert session.uncertainty().identical(first)


def test_where_nothing_may_be_written_it_is_told_all_the_same(run: Path) -> None:
    with Session.open(run, write=False) as session:
        found = session.uncertainty()
        assert found.sizes["particle"] == 120
        assert "uncertainty" not in session.results().children


def test_a_start_is_refused(run: Path, capsys: Out) -> None:
    assert main(["uncertainty", str(run), "--iteration", "0"]) == 2
    assert "run an iteration" in capsys.readouterr().err
