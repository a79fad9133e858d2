"""What is deposited: maps in one frame, an imposed B-factor found again, and the numbers and curve that EMDB reads."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import filter_map
from lrcore.maps.fsc import fsc_curves
from lrcore.maps.sharpening import fit_guinier
from lrcore.records import FLAG_BAD_IMAGE, Fsc, HalfMaps, Step, Volume
from lrcore.refinement.density import mask_for_next_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.cli._main import main
from lrwidgets.export.sharpened_map import sharpen_step
from lrwidgets.export.step_files import write_step
from lrwidgets.session.session import Session
from tests.fakes import make_job, make_particles, make_step
from tests.lrwidgets.conftest import make_files

BOX, PIXEL_A, BFACTOR_A2 = 64, 1.5, 90.0
ORIGIN_A = (-48.0, 12.0, 7.5)


def blob_mask() -> Volume:
    """A soft ball, in a frame of its own."""
    grid = np.indices((BOX,) * 3) - BOX // 2
    distance = np.sqrt((grid**2).sum(axis=0))
    return Volume(np.clip((22 - distance) / 5, 0, 1).astype(np.float32), PIXEL_A, ORIGIN_A)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(BOX,) * 3).astype(np.float32)


def falling(bfactor_A2: float, error: float = 0.02) -> tuple[Job, Step]:
    """A job and a step whose half maps are white but for a B-factor, with a small error of each."""
    frequency = np.arange(BOX // 2 + 1) / (BOX * PIXEL_A)
    to_corner = np.arange(2 * BOX) / (BOX * PIXEL_A)
    signal = filter_map(noise(0), np.exp(-0.25 * bfactor_A2 * to_corner**2))
    halves = [Volume(signal + error * noise(seed), PIXEL_A, (1.0, 2.0, 3.0)) for seed in (1, 2)]
    job = Job(make_particles(10), blob_mask(), RefineSpec(symmetry="C2"))
    curves = fsc_curves(halves[0], halves[1], job.mask, 0, part=True)
    assert len(curves["corrected"].value) == len(frequency)
    return job, replace(make_step(job), half_maps=HalfMaps(*halves), fsc=curves)


def deposit(folder: Path, job: Job, step: Step, *before: Step) -> list[str]:
    told: list[str] = []
    paths = write_step({"deposit": folder}, job, step, lambda: before, lambda: None, None, told.append)  # type: ignore
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()}
    return told


def numbers(folder: Path) -> dict[str, str]:
    """The table of README.md."""
    rows = [
        line.strip("| \n").split(" | ") for line in (folder / "README.md").read_text().splitlines() if " | " in line
    ]
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("bfactor_A2", [40.0, BFACTOR_A2, 150.0])
def test_an_imposed_bfactor_is_found_and_taken_off(bfactor_A2: float, tmp_path: Path) -> None:
    job, step = falling(bfactor_A2, 0.002)
    (told,) = deposit(tmp_path / "new" / "deposit", job, step)
    found = float(re.search(r"B-factor (-?[\d.]+) Å²", told)[1])  # type: ignore[index]
    assert found == pytest.approx(-bfactor_A2, rel=0.03, abs=2)
    assert f"B-factor {found:.1f} Å²" in numbers(tmp_path / "new" / "deposit")["Sharpening"]
    sharpened = io.read_volume(tmp_path / "new" / "deposit" / "sharpened.mrc")
    curve = step.fsc["corrected"]
    flat = fit_guinier(sharpened.data, Fsc("corrected", curve.frequency, np.ones(len(curve.value))), high_A=4.0)
    assert abs(flat.bfactor_A2) < 0.06 * bfactor_A2 + 2


def test_all_maps_lie_in_one_frame_and_give_the_fsc(tmp_path: Path) -> None:
    job, step = falling(BFACTOR_A2)
    deposit(tmp_path, job, step)
    maps = {path.name: io.read_volume(path) for path in tmp_path.glob("*.mrc")}
    assert set(maps) == {"half1.mrc", "half2.mrc", "sharpened.mrc", "mask.mrc"}
    for volume in maps.values():
        assert volume.box == BOX
        assert volume.pixel_size_A == pytest.approx(PIXEL_A)
        assert volume.header_origin_A == pytest.approx(ORIGIN_A)
    assert np.array_equal(maps["half1.mrc"].data, step.half_maps.first.data)
    assert np.array_equal(maps["half2.mrc"].data, step.half_maps.second.data)
    again = fsc_curves(maps["half1.mrc"], maps["half2.mrc"], maps["mask.mrc"], 0, part=True)["corrected"]
    np.testing.assert_allclose(again.value, step.fsc["corrected"].value, atol=1e-6)
    with mrcfile.open(tmp_path / "sharpened.mrc") as file:
        assert file.is_volume()
        assert file.header.mode == 2


def test_the_curve_is_what_emdb_reads(tmp_path: Path) -> None:
    """Element fsc with title, xaxis and yaxis; in each coordinate a decimal x and y, which have no exponent."""
    job, step = falling(BFACTOR_A2)
    curve = step.fsc["corrected"]
    tiny = replace(curve, value=np.where(np.arange(len(curve.value)) == 31, -1.234e-7, curve.value))
    deposit(tmp_path, job, replace(step, fsc={**step.fsc, "corrected": tiny}))
    root = ET.parse(tmp_path / "fsc.xml").getroot()
    assert root.tag == "fsc"
    assert list(root.attrib) == ["title", "xaxis", "yaxis"]
    assert [[child.tag for child in each] for each in root] == [["x", "y"]] * len(curve.frequency)
    texts = [[child.text or "" for child in each] for each in root]
    assert all(re.fullmatch(r"-?\d+\.\d+", text) for row in texts for text in row)
    np.testing.assert_allclose([[float(t) for t in row] for row in texts], np.c_[tiny.frequency, tiny.value], rtol=1e-8)


def test_the_numbers_are_those_of_the_step(tmp_path: Path) -> None:
    job, step = falling(BFACTOR_A2)
    flags = np.zeros(10, np.uint8)
    flags[:3] = FLAG_BAD_IMAGE
    step = replace(step, expectation=replace(step.expectation, flags=flags))
    deposit(tmp_path, job, step)
    found = numbers(tmp_path)
    assert found["Number of particles used"] == "7 (half sets of 3 and 4)"
    assert found["Box"] == "64 × 64 × 64 voxels"
    assert found["Voxel size"] == "1.5 Å"
    assert found["Symmetry"] == "C2"
    assert found["Resolution"] == f"{step.fsc['corrected'].resolution_A():.2f} Å"
    assert found["Resolution method"].startswith("FSC 0.143 CUT-OFF")
    assert found["Software"].startswith("lrwidgets ")
    assert found["Acceleration voltage"] == "300 kV"
    assert found["Spherical aberration"] == "2.7 mm"
    assert found["Amplitude contrast"] == "0.1"
    level = float(found["Recommended contour level"])
    above = (io.read_volume(tmp_path / "sharpened.mrc").data > level).mean()
    assert above == pytest.approx(0.015, abs=0.002)


def test_what_the_half_maps_show_is_said(tmp_path: Path) -> None:
    job, step = falling(BFACTOR_A2)
    alone, whole = "show the refined region alone", "show the whole particle"
    kept = replace(job, spec=RefineSpec(subtract_outside=False))
    later = replace(step, iteration=1)
    for number, (given, of, words) in enumerate([(job, step, whole), (job, later, alone), (kept, later, whole)]):
        deposit(tmp_path / str(number), given, of)
        assert words in (tmp_path / str(number) / "README.md").read_text()


def test_images_that_were_subtracted_before_show_the_region_alone_marked_or_not(tmp_path: Path) -> None:
    job, step = falling(BFACTOR_A2)
    marked = replace(job, particles=replace(job.particles, subtracted=True))
    measured = replace(step, outside_fraction=(0.0, 0.0))
    for number, (given, first) in enumerate([(marked, step), (job, measured)]):
        given = replace(given, spec=RefineSpec(subtract_outside=False))
        deposit(tmp_path / str(number), given, replace(step, iteration=1), first)
        assert "the rest was subtracted from the images before" in (tmp_path / str(number) / "README.md").read_text()


def test_the_mask_is_that_of_the_fsc(tmp_path: Path) -> None:
    """A dynamic mask is made from the step before; that of the next iteration is another."""
    job, first = falling(BFACTOR_A2)
    job = replace(job, spec=RefineSpec(mask_mode="dynamic", dynamic_mask_threshold=0.02))
    parent = replace(first, iteration=1)
    wanted = mask_for_next_iteration(job, parent)
    assert not np.array_equal(wanted.data, job.mask.data)
    deposit(tmp_path, job, replace(parent, iteration=2), first, parent)
    assert np.array_equal(io.read_volume(tmp_path / "mask.mrc").data, wanted.data)


def test_a_resolution_that_is_too_low_is_told_and_the_filtered_map_deposited(tmp_path: Path) -> None:
    job = make_job()
    step = make_step(job)
    with pytest.raises(InputError, match="too few to fit"):
        sharpen_step(job, step)
    (line,) = deposit(tmp_path, job, step)
    assert re.match(r"no sharpened\.mrc: a resolution of .* is too low to fit a B-factor", line)
    assert {path.name for path in tmp_path.glob("*.mrc")} == {"half1.mrc", "half2.mrc", "map.mrc", "mask.mrc"}
    assert numbers(tmp_path)["Sharpening"].startswith("none")


def test_the_command_writes_it_and_says_the_bfactor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, step = falling(BFACTOR_A2)
    session = Session(job)
    session._store.append(step, None, job)  # type: ignore[union-attr]
    session._publish(**session._position(session._store.head))  # type: ignore[union-attr]
    monkeypatch.setattr(Session, "open", lambda *_, **__: session)
    assert main(["export", "run.zarr", "--deposit", str(tmp_path / "d"), "--maps", str(tmp_path / "m")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"sharpened\.mrc: B-factor -\d+\.\d Å², fitted from 10 to [\d.]+ Å \(correlation -?[\d.]+\)", lines[-1]
    )
    assert sum("B-factor" in line for line in lines) == 1
    assert (tmp_path / "m" / "sharpened.mrc").read_bytes() == (tmp_path / "d" / "sharpened.mrc").read_bytes()
    assert (tmp_path / "d" / "README.md").exists()


def test_a_panel_exports_it(tmp_path: Path) -> None:
    from lrwidgets.gui.export_model import EXPORT_KINDS, export_step
    from tests.fakes import FakeEngine

    files = make_files(tmp_path)
    assert "deposit" in dict(EXPORT_KINDS)
    with Session.load(files.star, files.mask, files.halves, engine=FakeEngine()) as session:
        session.run(1, wait=True)
        paths = export_step(session, str(tmp_path / "not" / "yet"), ["deposit"])
    assert {path.parent for path in paths} == {tmp_path / "not" / "yet" / "deposit"}
    assert all(path.exists() for path in paths)
