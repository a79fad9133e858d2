"""What a run exports, read back by programs that are not ours: RELION's, cryosparc-tools, starfile, XML, plain text."""

import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import yaml

from lrcore import io
from lrcore.imaging import rotations
from lrcore.maps.fsc import masked_fsc
from lrcore.records import empty_other_modes
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main
from lrwidgets.export.step_files import pose_columns, write_step_particles
from lrwidgets.session.session import Session
from tests.fakes import make_job, make_step

CURVES = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}
OURS = (
    "lrwAngleChange",
    "lrwShiftChangeAngst",
    "lrwRotationSd",
    "lrwShiftSdAngst",
    "lrwModeProbability",
    "lrwPresence",
    "lrwEvidence",
    "lrwSecondModeProbability",
    "lrwSecondModeAngle",
    "lrwSecondModeShiftAngst",
    "lrwFlags",
)
COUNT = 120
ORIGIN_A = (-40.0, 12.0, 7.5)
"""Of the map's grid: what is drawn has to lie where the maps do."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two iterations on a small moving particle."""
    folder = tmp_path_factory.mktemp("exports")
    simulate_flexible_particle(folder, n=COUNT, box=40, pixel_size_A=4.6, snr=0.3)
    with mrcfile.open(folder / "mask_b.mrc", "r+") as file:
        file.header.origin = ORIGIN_A
    argv = ["refine", str(folder / "particles.star"), "--mask", str(folder / "mask_b.mrc"), "--iterations", "2"]
    assert main([*argv, "--backend", "cpu", "--out", str(folder / "run.zarr")]) == 0
    return folder / "run.zarr"


@pytest.fixture(scope="module")
def out(run: Path) -> Path:
    """All that is exported of it."""
    folder = run.parent / "out"
    folder.mkdir()
    where = {
        "star": "refined.star",
        "cs": "refined.cs",
        "maps": "maps",
        "fsc-xml": "fsc.xml",
        "fsc-star": "postprocess.star",
        "chimerax": "scene",
    }
    options = [word for name, file in where.items() for word in (f"--{name}", str(folder / file))]
    assert main(["export", str(run), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def fsc(run: Path) -> dict[str, np.ndarray]:
    """The FSC dataset of the run's last iteration."""
    with Session.open(run, write=False) as session:
        data = session.results()["fsc"].to_dataset().isel(iteration=-1)
    return {str(name): data[name].values for name in (*CURVES, "frequency")}


@pytest.mark.slow
def test_fsc_xml_holds_the_corrected_curve(out: Path, fsc: dict[str, np.ndarray]) -> None:
    root = ET.parse(out / "fsc.xml").getroot()
    assert root.tag == "fsc"
    assert set(root.attrib) == {"title", "xaxis", "yaxis"}
    assert {child.tag for child in root} == {"coordinate"}
    x, y = (np.array([float(one.findtext(axis)) for one in root]) for axis in "xy")
    np.testing.assert_allclose(x, fsc["frequency"], rtol=1e-8)
    np.testing.assert_allclose(y, fsc["corrected"], rtol=1e-8, atol=1e-9)


def test_fsc_xml_is_built_as_relions(out: Path, relion: Callable[[str], str]) -> None:
    program, maps = relion("relion_postprocess"), out / "maps"
    halves = ["--i", maps / "half1.mrc", "--i2", maps / "half2.mrc", "--mask", maps / "mask.mrc"]
    words = [program, *halves, "--angpix", "4.6", "--o", out / "theirs"]
    subprocess.run([str(word) for word in words], cwd=out, capture_output=True, check=False)
    theirs, ours = (ET.parse(path).getroot() for path in (out / "theirs_fsc.xml", out / "fsc.xml"))
    assert (ours.tag, len(ours)) == (theirs.tag, len(theirs))
    assert {name: ours.get(name) for name in ("xaxis", "yaxis")} == {
        name: theirs.get(name) for name in ("xaxis", "yaxis")
    }
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert [child.tag for child in one] == [child.tag for child in other]
        assert float(one.findtext("x")) == pytest.approx(float(other.findtext("x")), rel=1e-5)
    labels = {name: set(starfile.read(out / f"{name}.star")["fsc"].columns) for name in ("theirs", "postprocess")}
    assert labels["theirs"] - labels["postprocess"] == {"rlnFourierShellCorrelationParticleMaskFraction"}
    assert labels["postprocess"] <= labels["theirs"]


def test_postprocess_star_holds_the_curves_of_the_run(out: Path, fsc: dict[str, np.ndarray]) -> None:
    blocks = starfile.read(out / "postprocess.star")
    table, general = blocks["fsc"], blocks["general"]
    assert table["rlnSpectralIndex"].tolist() == list(range(21))
    np.testing.assert_allclose(table["rlnResolution"], fsc["frequency"], rtol=1e-8)
    np.testing.assert_allclose(table["rlnAngstromResolution"][1:], 1 / fsc["frequency"][1:], rtol=1e-8)
    for kind, column in CURVES.items():
        np.testing.assert_allclose(table[column], fsc[kind], rtol=1e-8, atol=1e-9, err_msg=kind)
    with mrcfile.open(general["rlnUnfilteredMapHalf1"]) as file:
        assert file.data.shape == (40, 40, 40)
    at = np.interp(1 / general["rlnFinalResolution"], fsc["frequency"], fsc["corrected"])
    assert at == pytest.approx(0.143, abs=1e-6)
    # Before that shell the masked curve stands as it is.
    start = round(40 * 4.6 / general["rlnRandomiseFrom"])
    np.testing.assert_array_equal(fsc["corrected"][: start + 2], fsc["masked"][: start + 2])
    assert (fsc["corrected"] != fsc["masked"])[start + 2 :].any()


def test_relions_own_script_prints_the_curves(
    out: Path, fsc: dict[str, np.ndarray], relion: Callable[[str], str]
) -> None:
    words = [relion("relion_star_printtable"), "postprocess.star", "data_fsc"]
    done = subprocess.run(words, cwd=out, capture_output=True, text=True, check=True)
    table = np.array([line.split() for line in done.stdout.splitlines() if line.strip()], float)
    assert table.shape == (21, 7)
    np.testing.assert_allclose(table[:, 3], fsc["corrected"], rtol=1e-8, atol=1e-9)


def test_the_scene_opens_files_that_are_there_and_marks_the_fulcrum_in_their_frame(out: Path, run: Path) -> None:
    lines = (out / "scene" / "scene.cxc").read_text().splitlines()
    opened = [line.split()[1] for line in lines if line.startswith("open ")]
    assert opened == ["map.mrc", "map_whole.mrc", "mask.mrc", "scene.bild"]
    assert all((out / "scene" / name).is_file() for name in opened)
    level = {line.split()[1]: float(line.split("level ")[1].split()[0]) for line in lines if "level" in line}
    for number, name in enumerate(opened[:3], 1):
        with mrcfile.open(out / "scene" / name) as file:
            assert 0.001 < (file.data > level[f"#{number}"]).mean() < 0.3
            assert tuple(file.header.origin.item()) == ORIGIN_A
    assert "transparency" in next(line for line in lines if line.startswith("volume #3"))
    with Session.open(run, write=False) as session:
        fulcrum = np.array(session.load_step()[1].search.fulcrum_A)
    sphere = shapes(out / "scene" / "scene.bild", ".sphere")[0]
    np.testing.assert_allclose(sphere[:3], np.array(ORIGIN_A) + 20 * 4.6 + fulcrum, atol=1e-3)


def test_arrows_of_the_scene_are_the_principal_motions(out: Path) -> None:
    """The axis goes through the fulcrum that the poses tell; the other arrow, how the body's middle moves."""
    text = (out / "scene" / "scene.bild").read_text()
    arrows = shapes(out / "scene" / "scene.bild", ".arrow")
    found = shapes(out / "scene" / "scene.bild", ".sphere")[1][:3]
    assert len(arrows) == 2 * text.count("its axis") >= 2
    mask = io.read_volume(out / "scene" / "mask.mrc")
    middle = np.average(np.indices(mask.data.shape).reshape(3, -1)[::-1], axis=1, weights=mask.data.ravel())
    for axis, path in zip(arrows[::2], arrows[1::2], strict=True):
        np.testing.assert_allclose((axis[:3] + axis[3:6]) / 2, found, atol=2e-3)
        np.testing.assert_allclose((path[:3] + path[3:6]) / 2, np.array(ORIGIN_A) + 4.6 * middle, atol=0.05)
        assert np.linalg.norm(path[3:6] - path[:3]) > 0.5


def test_a_start_has_a_scene_without_motion(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--iteration", "0", "--chimerax", str(tmp_path / "scene")]) == 0
    assert len(shapes(tmp_path / "scene" / "scene.bild", ".sphere")) == 1
    assert shapes(tmp_path / "scene" / "scene.bild", ".arrow") == []


def shapes(path: Path, kind: str) -> list[np.ndarray]:
    """The numbers of every line of a kind."""
    lines = path.read_text().splitlines()
    assert {line.split()[0] for line in lines} <= {".comment", ".color", ".sphere", ".arrow"}
    colours = [[float(word) for word in line.split()[1:]] for line in lines if line.startswith(".color")]
    assert all(len(rgb) == 3 and 0 <= min(rgb) <= max(rgb) <= 1 for rgb in colours)
    return [np.array([float(word) for word in line.split()[1:]]) for line in lines if line.startswith(kind)]


def test_columns_of_our_own_are_those_of_the_run(out: Path, run: Path) -> None:
    with Session.open(run, write=False) as session:
        tree = session.results()["particles"].to_dataset().isel(iteration=-1)
    which = tree["other_probability"].argmax("mode")
    second = tree["other_modes"].isel(mode=which).fillna(0.0).values
    mean_square = {name: np.sqrt((tree[name].values ** 2).mean(axis=1)) for name in ("rotation_sd", "shift_sd")}
    wanted = [
        tree["angle_change"],
        tree["shift_change"],
        *mean_square.values(),
        tree["mode_probability"],
        tree["presence"],
        tree["evidence"],
        tree["other_probability"].max("mode"),
        np.degrees(np.linalg.norm(second[:, :3], axis=1)),
        np.linalg.norm(second[:, 3:], axis=1),
        tree["flags"],
    ]
    star, table = starfile.read(out / "refined.star")["particles"], np.load(out / "refined.cs")
    for name, values in zip(OURS, wanted, strict=True):
        np.testing.assert_allclose(star[name], values, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(table[f"lrw/{name.removeprefix('lrw')}"], values, atol=1e-6, err_msg=name)


def test_the_second_mode_is_the_most_probable_of_the_others() -> None:
    job = make_job(n=3)
    offset, probability = empty_other_modes(3)
    offset[0, 0], offset[0, 1] = (0.1, 0, 0, 1, 0), (0, 0.3, 0.4, -3, 4)
    offset[2, 0] = (0, 0, -0.2, 0, 2)
    probability[0, :2], probability[2, 0] = (0.1, 0.25), 0.4
    step = make_step(job)
    several = replace(step.expectation, other_modes=offset, other_probability=probability)
    got = pose_columns(job, replace(step, expectation=several))
    assert got["lrwSecondModeProbability"] == pytest.approx([0.25, 0.0, 0.4])
    assert np.radians(got["lrwSecondModeAngle"]) == pytest.approx([0.5, 0.0, 0.2])
    assert got["lrwSecondModeShiftAngst"] == pytest.approx([5.0, 0.0, 2.0])


@pytest.mark.parametrize("estimated", [True, False])
def test_estimated_scales_are_cryosparcs_alpha(out: Path, tmp_path: Path, estimated: bool) -> None:
    job = replace(make_job(), particles=io.read_particles(out / "refined.cs"))
    job = replace(job, spec=job.spec.model_copy(update={"per_particle_scale": estimated}))
    scale = np.linspace(0.5, 1.5, COUNT)
    step = make_step(job)
    write_step_particles(tmp_path / "a.cs", job, replace(step, expectation=replace(step.expectation, scale=scale)))
    before, after = np.load(out / "refined.cs"), np.load(tmp_path / "a.cs")
    np.testing.assert_array_equal(after["ctf/scale"], before["ctf/scale"])
    if estimated:
        np.testing.assert_allclose(after["alignments3D/alpha"], scale, rtol=1e-6)
    else:
        assert "alignments3D/alpha" not in after.dtype.names


def said_by(folder: Path, *words: object) -> str:
    """What a program says that succeeds."""
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def require_known_labels(said: str) -> None:
    """The columns that RELION does not know, and keeps, are ours alone."""
    unknown = re.findall(r"unknown label: *_?(\w+)", said)
    assert said.lower().count("unknown label") == len(unknown)
    assert set(unknown) <= set(OURS)


def rows(path: Path) -> int:
    (table,) = [one for one in starfile.read(path, always_dict=True).values() if "rlnImageName" in one]
    return len(table)


@pytest.fixture(scope="module")
def project(out: Path, run: Path) -> Path:
    """The folder of the stack and of `out/`: images keep the names that are found from there."""
    assert starfile.read(out / "refined.star")["particles"]["rlnImageName"][0] == "000001@particles.mrcs"
    return run.parent


def test_relions_star_handler_keeps_every_row(project: Path, relion: Callable[[str], str]) -> None:
    program = relion("relion_star_handler")
    said = said_by(project, program, "--i", "out/refined.star", "--o", "out/handled.star", "--select", "rlnDefocusU")
    require_known_labels(said)
    assert rows(project / "out/handled.star") == COUNT
    said_by(project, program, "--i", "out/refined.star", "--o", "out/split.star", "--split", "--size_split", "50")
    assert [rows(project / f"out/split_split{number}.star") for number in (1, 2, 3)] == [50, 50, 20]


def test_relions_stack_create_finds_every_image(project: Path, run: Path, relion: Callable[[str], str]) -> None:
    require_known_labels(said_by(project, relion("relion_stack_create"), "--i", "out/refined.star", "--o", "out/again"))
    assert rows(project / "out/again.star") == COUNT
    with mrcfile.open(project / "out/again.mrcs") as again, mrcfile.open(run.parent / "particles.mrcs") as stack:
        np.testing.assert_array_equal(again.data, stack.data)


def test_relion_reconstructs_our_map_from_the_exported_particles(
    project: Path, fsc: dict[str, np.ndarray], relion: Callable[[str], str]
) -> None:
    program = relion("relion_reconstruct")
    require_known_labels(said_by(project, program, "--i", "out/refined.star", "--o", "out/theirs_map.mrc", "--ctf"))
    assert main(["reconstruct", str(project / "out/refined.star"), "--out", str(project / "out/ours_map.mrc")]) == 0
    ours, theirs = (io.read_volume(project / f"out/{name}_map.mrc") for name in ("ours", "theirs"))
    mask = io.read_volume(project / "out" / "maps" / "mask.mrc")
    known = np.nonzero(fsc["masked"] > 0.8)[0][1:]
    alike = masked_fsc(ours.data, theirs.data, mask.data)[known]
    print(
        f"our map and RELION's of the exported particles: FSC {alike.min():.4f} at least in shells 1 to {known.max()}"
    )
    assert known.max() >= 7
    assert alike[:-1].min() > 0.99
    assert alike.min() > 0.97  # the last shell, where the half maps themselves correlate by 0.8


def test_cryosparc_tools_reads_the_exported_particles(project: Path) -> None:
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    group = yaml.safe_load((project / "out/refined.csg").read_text())
    slots = {slot: project / "out" / entry["metafile"].lstrip(">") for slot, entry in group["results"].items()}
    assert {"blob", "ctf", "alignments3D"} <= set(slots)
    whole = dataset.innerjoin_many(*(dataset.load(path, prefixes=[slot]) for slot, path in slots.items()))
    assert len(whole) == COUNT == {entry["num_items"] for entry in group["results"].values()}.pop()
    particles = io.read_particles(project / "out/refined.star")
    order = {int(uid): row for row, uid in enumerate(particles.uid)}
    at = [order[int(uid)] for uid in whole["uid"]]
    turn = rotations.rotation_angle_deg(
        rotations.from_cryosparc(whole["alignments3D/pose"]), particles.poses.rotation[at]
    )
    assert turn.max() < 1e-4
    shift = whole["alignments3D/shift"] * whole["alignments3D/psize_A"][:, None]
    np.testing.assert_allclose(shift, particles.poses.origin_A[at], atol=2e-5)
    np.testing.assert_array_equal(whole["alignments3D/split"] + 1, particles.half[at])
    np.testing.assert_array_equal(whole["blob/idx"], particles.images.index[at])
    loaded = dataset.load(project / "out/refined.cs")
    assert {f"lrw/{name.removeprefix('lrw')}" for name in OURS} <= set(loaded.fields())
