"""lrwidgets locres, filter and fsc --conical: what they write is what lrcore makes; bad input is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.imaging.filters import local_lowpass, lowpass
from lrcore.maps.fsc import fsc_curves
from lrcore.maps.sharpening import fit_guinier, fsc_weight, sharpen
from lrcore.masks import soft_sphere
from lrcore.records import Volume
from lrcore.simulation.atoms import density_of_atoms
from lrcore.simulation.phantom import make_two_body_phantom
from lrwidgets.cli._main import main
from tests.lrwidgets.cli.commands import run_refused

Out = pytest.CaptureFixture[str]
N, PIXEL, ORIGIN = 64, 2.0, (-10.0, 4.0, 6.0)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with half1.mrc and half2.mrc of a phantom in noise, and mask.mrc."""
    folder = tmp_path_factory.mktemp("maps")
    truth = density_of_atoms(make_two_body_phantom(1, 22.0, 18.0).atoms, N, PIXEL, 100.0)
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(size=truth.shape)
        data = (truth / truth.std() + 0.7 * noise).astype(np.float32)
        io.write_volume(folder / f"half{number}.mrc", Volume(data, PIXEL, ORIGIN))
    io.write_volume(folder / "mask.mrc", Volume(soft_sphere(N, 22, 8), PIXEL, ORIGIN))
    return folder


def halves(folder: Path) -> list[str]:
    return [str(folder / f"half{number}.mrc") for number in (1, 2)]


def mean(folder: Path) -> np.ndarray:
    return 0.5 * np.sum([io.read_volume(path).data for path in halves(folder)], axis=0)


def refused(capsys: Out, arguments: list[str]) -> str:
    (line,) = run_refused(capsys, *arguments)
    return line


def test_locres_writes_a_map_colours_and_a_picture(maps: Path, tmp_path: Path, capsys: Out) -> None:
    out, cxc, png = (tmp_path / name for name in ("local.mrc", "local.cxc", "local.png"))
    arguments = ["locres", *halves(maps), "--mask", str(maps / "mask.mrc"), "--out", str(out), "--sampling", "8"]
    assert main([*arguments, "--cxc", str(cxc), "--plot", str(png), "--json"]) == 0
    (said,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    written = io.read_volume(out)
    assert written.header_origin_A == ORIGIN
    inside = written.data[io.read_volume(maps / "mask.mrc").data > 0.5]
    assert said["quartiles_A"][0] <= said["median_A"] <= said["quartiles_A"][1]
    assert said["median_A"] == pytest.approx(np.median(inside))
    assert said["sampling_A"] == 8
    commands = cxc.read_text().splitlines()
    assert [line.split()[0] for line in commands] == ["open", "open", "open", "volume", "hide", "color", "key"]
    assert str(out.resolve()) in commands[2]
    steps = [float(pair.split(",")[0]) for pair in commands[5].split()[-1].split(":")]
    assert steps == sorted(set(steps))
    assert png.read_bytes().startswith(b"\x89PNG")


def test_locres_tells_a_person_and_needs_no_mask(maps: Path, tmp_path: Path, capsys: Out) -> None:
    assert main(["locres", *halves(maps), "--out", str(tmp_path / "local.mrc")]) == 0
    said = capsys.readouterr().out
    assert "median" in said
    assert "quartiles" in said


def test_half_maps_are_filtered_by_their_fsc(maps: Path, tmp_path: Path, capsys: Out) -> None:
    out = tmp_path / "map.mrc"
    assert main(["filter", *halves(maps), "--mask", str(maps / "mask.mrc"), "--out", str(out), "--json"]) == 0
    (said,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    volumes = [io.read_volume(path) for path in (*halves(maps), maps / "mask.mrc")]
    curve = fsc_curves(*volumes, seed=0)["corrected"]
    assert said["fsc"] == "corrected"
    assert said["resolution_A"] == pytest.approx(curve.resolution_A())
    plain = sharpen(mean(maps), PIXEL, 0.0, fsc_weight(curve))
    written = io.read_volume(out)
    assert written.data == pytest.approx(plain, abs=1e-4)
    assert written.header_origin_A == ORIGIN


def test_sharpening_is_fitted_and_told(maps: Path, tmp_path: Path, capsys: Out) -> None:
    out = tmp_path / "sharp.mrc"
    assert main(["filter", *halves(maps), "--sharpen", "auto", "--out", str(out), "--json"]) == 0
    fit, done = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    curve = fsc_curves(*(io.read_volume(path) for path in halves(maps)))["tight"]
    plot = fit_guinier(mean(maps), curve)
    assert fit["event"] == "guinier"
    assert fit["bfactor_A2"] == done["bfactor_A2"] == pytest.approx(plot.bfactor_A2, rel=1e-4)
    assert fit["range_A"] == pytest.approx(plot.range_A)
    assert fit["bfactor_A2"] < 0
    plain = sharpen(mean(maps), PIXEL, plot.bfactor_A2, fsc_weight(curve))
    assert io.read_volume(out).data == pytest.approx(plain, abs=1e-3)


def test_one_map_is_filtered_as_told(maps: Path, tmp_path: Path, capsys: Out) -> None:
    out, first = tmp_path / "low.mrc", io.read_volume(halves(maps)[0]).data
    asked = ["--sharpen", "-120", "--lowpass", "9"]
    assert main(["filter", halves(maps)[0], *asked, "--out", str(out)]) == 0
    assert "sharpened by -120" in capsys.readouterr().out
    assert io.read_volume(out).data == pytest.approx(lowpass(sharpen(first, PIXEL, -120.0), PIXEL, 9.0), abs=1e-3)


def test_each_voxel_by_its_local_resolution(maps: Path, tmp_path: Path, capsys: Out) -> None:
    local, out = tmp_path / "local.mrc", tmp_path / "map.mrc"
    assert main(["locres", *halves(maps), "--out", str(local), "--sampling", "10"]) == 0
    assert main(["filter", *halves(maps), "--local", str(local), "--out", str(out)]) == 0
    assert "local resolution" in capsys.readouterr().out
    (plain,) = local_lowpass((mean(maps),), PIXEL, io.read_volume(local).data)
    assert io.read_volume(out).data == pytest.approx(plain, abs=1e-4)


def test_directions_are_told(maps: Path, capsys: Out) -> None:
    assert main(["fsc", *halves(maps), "--conical", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "conical"
    assert 0 < last["area_ratio"] <= 1
    assert last["finest_A"] <= last["coarsest_A"]
    assert np.shape(last["fsc"]) == (96, N // 2 + 1)
    assert main(["fsc", *halves(maps), "--conical"]) == 0
    assert "by direction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["HALF"], "nothing to do"),
        (["HALF", "--sharpen", "auto"], "give both half maps, or a B-factor"),
        (["HALF", "--sharpen", "much"], "'much' is not a number"),
        (["HALF", "--lowpass", "1"], "between 4 Å"),
        (["HALF", "--lowpass", "-3"], "not above 0"),
        (["HALF", "--lowpass", "8", "--mask", "MASK"], "--mask is for the FSC of two half maps"),
        (["HALF", "--local", "MASK"], "voxels of 0 or less"),
        (["HALF", "HALF", "HALF"], "3 maps are given"),
    ],
)
def test_what_filter_cannot_do(maps: Path, tmp_path: Path, capsys: Out, arguments: list[str], words: str) -> None:
    files = {"HALF": halves(maps)[0], "MASK": str(maps / "mask.mrc")}
    asked = ["filter", *(files.get(word, word) for word in arguments), "--out", str(tmp_path / "out.mrc")]
    assert words in refused(capsys, asked)
    assert not (tmp_path / "out.mrc").exists()


def test_inputs_are_kept_and_have_to_fit(maps: Path, tmp_path: Path, capsys: Out) -> None:
    first, second = halves(maps)
    assert "is the input itself" in refused(capsys, ["filter", first, second, "--out", first])
    other = tmp_path / "small.mrc"
    io.write_volume(other, Volume(np.zeros((32, 32, 32), np.float32), PIXEL))
    assert "re-box the map: lrwidgets resample" in refused(
        capsys, ["locres", first, str(other), "--out", str(tmp_path / "x.mrc")]
    )
    asked = ["locres", first, second, "--window", "3", "--out", str(tmp_path / "x.mrc")]
    assert "between 16 Å" in refused(capsys, asked)
