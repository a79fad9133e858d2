"""The command line with the real engine on a small simulated set: resumed runs, previews and bad images."""

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io import read_volume
from lrcore.refinement.density import adopt_step
from lrcore.results.zarr_store import Store
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main
from lrwidgets.session.session import Session
from tests.fakes import same_bits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_flexible_particle(folder, n=60, box=40, pixel_size_A=4.6, snr=0.2)
    return folder


def refine(data: Path, out: Path, *more: str) -> list[str]:
    return ["refine", str(data / "particles.star"), "--mask", str(data / "mask_b.mrc"), "--out", str(out), *more]


def test_a_resumed_run_has_the_same_bits_whatever_the_threads(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    assert main(refine(data, whole, "--iterations", "2", "--threads", "2")) == 0
    assert main(refine(data, parts, "--iterations", "1", "--threads", "1")) == 0
    assert main(refine(data, parts, "--iterations", "2", "--threads", "1", "--resume")) == 0
    stores = [Store.open(path, write=False) for path in (whole, parts)]
    first, second = (store.load(store.node().id) for store in stores)
    assert first.iteration == second.iteration == 2
    for name in ("expectation", "half_maps", "fsc", "noise"):
        assert same_bits(getattr(first, name), getattr(second, name)), name


def test_an_iteration_adds_one_file(data: Path, tmp_path: Path) -> None:
    def count() -> int:
        return sum(path.is_file() for path in (tmp_path / "run.zarr").rglob("*"))

    assert main(refine(data, tmp_path / "run.zarr", "--iterations", "1", "--threads", "1")) == 0
    before = count()
    assert before <= 40
    assert main(refine(data, tmp_path / "run.zarr", "--iterations", "2", "--threads", "1", "--resume")) == 0
    assert count() == before + 1


def test_a_run_on_the_ewald_sphere_goes_on_as_it_began(data: Path, tmp_path: Path) -> None:
    """From the start, whose half maps are reconstructed; beside a flat run, which makes other maps."""
    runs = {name: tmp_path / f"{name}.zarr" for name in ("whole", "parts", "flat")}
    curved = ("--set", "ewald=negative", "--threads", "1")
    assert main(refine(data, runs["whole"], "--iterations", "2", *curved)) == 0
    assert main(refine(data, runs["parts"], "--iterations", "1", *curved)) == 0
    assert main(refine(data, runs["parts"], "--iterations", "2", "--resume")) == 0
    assert main(refine(data, runs["flat"], "--iterations", "1", "--threads", "1")) == 0
    stores = {name: Store.open(path, write=False) for name, path in runs.items()}
    ends = {name: store.load(store.node().id) for name, store in stores.items()}
    assert same_bits(ends["whole"].half_maps, ends["parts"].half_maps)
    starts = [store.load(store.tree()[0].id).half_maps.first.data for store in (stores["whole"], stores["flat"])]
    assert 1e-4 < np.abs(starts[0] - starts[1]).max() / np.abs(starts[1]).max() < 0.1


def test_a_preview_shows_a_setting_on_a_few_particles(data: Path) -> None:
    with Session.load(data / "particles.star", data / "mask_b.mrc", threads=1) as session:
        session.run(0, wait=True)
        session.edit(rotation_extent_deg=1.0)
        session.preview(20, wait=True)
        preview = session.state.preview
        assert preview is not None
        assert len(preview.expectation.poses) == 20
        assert preview.history[-1].angle_from_input_deg <= 1.0 + 1e-6
        assert len(session.state.tree) == 1


def test_images_that_are_not_numbers(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mrcfile.open(data / "particles.mrcs", "r+") as mrc:
        kept = mrc.data[7].copy()
        mrc.data[7] = np.nan
    try:
        assert main(refine(data, tmp_path / "run.zarr", "--iterations", "1")) == 0
    finally:
        with mrcfile.open(data / "particles.mrcs", "r+") as mrc:
            mrc.data[7] = kept
    out, warned = capsys.readouterr()
    named = [line for line in warned.splitlines() if "skipped" in line]
    assert len(named) == 1  # though found twice: for the half maps of the start, and in the iteration
    assert "row 8 (image 8 of particles.mrcs: NaN or infinite pixels)" in named[0]
    assert out.splitlines()[-2].endswith("skipped 1")
    store = Store.open(tmp_path / "run.zarr", write=False)
    step = store.load(store.node().id)
    assert np.nonzero(step.expectation.flags & 8)[0].tolist() == [7]
    assert step.history[-1].skipped == 1


def test_a_step_under_another_mask_is_measured_inside_it(data: Path) -> None:
    """The maps of a start depend on its mask by their scale alone, so that both ways to its FSC must agree."""
    steps, masks = {}, {}
    for name in ("mask_full", "mask_b"):
        with Session.load(data / "particles.star", data / f"{name}.mrc", threads=1) as session:
            session.run(0, wait=True)
            masks[name], steps[name] = session.mask, session.load_step()[1]
    made, job = (replace(session.job, mask=masks[name]) for name in ("mask_b", "mask_full"))
    found = adopt_step(job, made, steps["mask_b"], steps["mask_b"], get_backend("cpu", 1))
    for kind, curve in steps["mask_full"].fsc.items():
        # The scale of a start is linear between the shells, so that it mixes neighbours a little; at the Nyquist
        # frequency, where the conjugate of a sample is the sample itself, more.
        difference = np.abs(found.fsc[kind].value - curve.value)[:-1]
        assert difference.max() < 0.01, kind
        assert np.median(difference) < 1e-3, kind
    assert not np.allclose(steps["mask_b"].fsc["masked"].value, steps["mask_full"].fsc["masked"].value, atol=0.01)


def test_a_run_goes_on_inside_another_mask_resumed_or_not(data: Path, tmp_path: Path) -> None:
    files, other = (data / "particles.star", data / "mask_full.mrc"), read_volume(data / "mask_b.mrc")
    with Session.load(*files, out=tmp_path / "whole.zarr", threads=1) as session:
        session.run(1, wait=True)
        session.use_mask(other)
        session.run(2, wait=True)
        whole = session.load_step()[1]
    with Session.load(*files, out=tmp_path / "parts.zarr", threads=1) as session:
        session.run(1, wait=True)
    for n in range(2):
        with Session.open(tmp_path / "parts.zarr", threads=1) as session:
            if n == 0:
                session.use_mask(other)
            assert np.array_equal(session.mask.data, other.data)
            session.run(1, wait=True)
            parts = session.load_step()[1]
    assert parts.iteration == whole.iteration == 3
    for name in ("expectation", "half_maps", "fsc", "noise", "search_key"):
        assert same_bits(getattr(parts, name), getattr(whole, name)), name
