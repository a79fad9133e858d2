"""lrwidgets mask: what it writes is what lrcore makes, what it says is true, and bad input is refused in one line."""

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lrcore import io, masks
from lrcore.records import Volume
from lrwidgets.cli._main import main

Out = pytest.CaptureFixture[str]
N, PIXEL, ORIGIN = 48, 2.0, (-10.0, 4.0, 6.0)
CENTRE = N // 2


def blob(place_px, radius_px: float) -> np.ndarray:
    """A smooth ball about a voxel (x, y, z)."""
    z, y, x = np.indices((N, N, N))
    distance = np.sqrt((x - place_px[0]) ** 2 + (y - place_px[1]) ** 2 + (z - place_px[2]) ** 2)
    return 1 / (1 + np.exp(2 * (distance - radius_px)))


@pytest.fixture(scope="module")
def maps() -> dict[str, np.ndarray]:
    """Two bodies, a small island and noise: two halves of it, and a plain map."""
    truth = blob((18, 24, 24), 6) + blob((31, 24, 24), 5) + blob((24, 40, 40), 2.5)
    rng = np.random.default_rng(0)
    noise = [0.3 * gaussian_filter(rng.normal(size=truth.shape), 0.5) for _ in range(2)]
    return {"map.mrc": truth, "half1.mrc": truth + noise[0], "half2.mrc": truth + noise[1]}


@pytest.fixture
def folder(maps: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The maps in a folder of their own, which is the current one."""
    for name, data in maps.items():
        io.write_volume(tmp_path / name, Volume(data.astype(np.float32), PIXEL, ORIGIN))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*arguments: str) -> np.ndarray:
    """The mask that a command writes, checked as a refinement checks it."""
    assert main(["mask", *arguments, "--out", "mask.mrc", "--overwrite"]) == 0
    volume = io.read_volume("mask.mrc")
    assert volume.header_origin_A == pytest.approx(ORIGIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a binary mask is warned of
        return masks.validate_mask(volume, N, PIXEL).data


def refused(capsys: Out, *arguments: str) -> str:
    """The one line with which the command refuses, leaving nothing behind."""
    before = sorted(os.listdir())
    capsys.readouterr()
    assert main(["mask", *arguments]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert sorted(os.listdir()) == before
    return err


def test_a_map_becomes_a_mask(folder: Path) -> None:
    data = io.read_volume("map.mrc").data
    filtered = masks.lowpass(data, PIXEL, 12.0)
    inside, parts = masks.largest_components(
        masks.voxels_above_threshold(filtered, masks.automatic_threshold(filtered))
    )
    assert parts == 2
    assert np.array_equal(made("map.mrc"), masks.mask_from_region(inside, PIXEL, 3.0, 15.0))
    assert sorted(os.listdir()) == ["half1.mrc", "half2.mrc", "map.mrc", "mask.mrc"]


def test_every_step_can_be_set(folder: Path) -> None:
    filtered = masks.lowpass(io.read_volume("map.mrc").data, PIXEL, 9.0)
    inside, _ = masks.largest_components(masks.voxels_above_threshold(filtered, 0.4), 2)
    steps = ["--threshold", "0.4", "--lowpass", "9", "--components", "2", "--dilate", "-2", "--soft", "7", "--fill"]
    assert np.array_equal(made("map.mrc", *steps), masks.mask_from_region(inside, PIXEL, -2.0, 7.0, fill=True))


def test_the_edge_follows_the_resolution(folder: Path, capsys: Out) -> None:
    mask = made("map.mrc", "--resolution", "4", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["soft_A"] == 20
    assert masks.edge_width(mask) * PIXEL == pytest.approx(20, rel=0.1)
    assert {check["name"]: check["threshold"] for check in told["checks"]}["edge"] == 5 * 4 / PIXEL


def test_two_half_maps_are_averaged(folder: Path) -> None:
    halves = [io.read_volume(f"half{i}.mrc").data for i in (1, 2)]
    io.write_volume("mean.mrc", Volume(0.5 * (halves[0] + halves[1]), PIXEL, ORIGIN))
    assert np.array_equal(made("half1.mrc", "half2.mrc"), made("mean.mrc"))


def test_the_part_at_a_point(folder: Path) -> None:
    island = made("map.mrc", "--at", "24, 40, 40 px", "--soft", "0", "--dilate", "0") > 0
    assert island[40, 40, 24]
    assert not island[24, 24, 18]


@pytest.mark.parametrize("place", ["30, 20, 24 px", "60, 40, 48 A", " 30,20,24px"])
def test_a_sphere_is_where_a_fulcrum_would_be(place: str, folder: Path) -> None:
    sphere = masks.sphere_mask(N, PIXEL, (12.0, -8.0, 0.0), 14.0) > 0
    assert np.array_equal(made("map.mrc", "--sphere", place, "14", "--soft", "0") > 0, sphere)


def test_shapes_are_joined_and_need_not_touch(folder: Path) -> None:
    drawn = [
        masks.sphere_mask(N, PIXEL, (0, 0, 0), 10.0),
        masks.box_mask(N, PIXEL, (-20, -20, -20), (12.0, 8.0, 10.0)),
        masks.cylinder_mask(N, PIXEL, (24, 24, 24), (0, 1, 1), 6.0, 12.0),
    ]
    shapes = [
        "--sphere",
        "box",
        "10",
        "--box",
        "28, 28, 28 A",
        "12,8,10",
        "--cylinder",
        "36,36,36px",
        "0,1,1",
        "6",
        "12",
    ]
    assert np.array_equal(made("map.mrc", *shapes, "--soft", "6"), masks.soft_edge(np.any(drawn, axis=0), PIXEL, 6.0))


def test_shapes_say_where_density_counts(folder: Path, capsys: Out) -> None:
    place = ["--sphere", "31, 24, 24 px", "13"]
    mask = made("map.mrc", "--threshold", "auto", *place, "--soft", "8", "--dilate", "0")
    assert "WARNING" in capsys.readouterr().out  # the bodies touch, so the edge cuts
    filtered = masks.lowpass(io.read_volume("map.mrc").data, PIXEL, 12.0)
    inside = filtered > masks.automatic_threshold(filtered)
    expected = inside & (masks.sphere_mask(N, PIXEL, (14, 0, 0), 13.0) > 0)
    assert np.array_equal(mask == 1, expected)
    assert not np.array_equal(expected, inside)


def test_a_model_is_placed_by_the_origin_of_the_map(folder: Path) -> None:
    gemmi = pytest.importorskip("gemmi")
    lines = [
        f"ATOM  {i:5d}  CA  ALA {chain}{1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"
        for i, (chain, (x, y, z)) in enumerate({"A": (10.0, 44.0, 54.0), "B": (50.0, 60.0, 70.0)}.items(), 1)
    ]
    Path("model.pdb").write_text("".join(lines) + "END\n")
    assert len(gemmi.read_structure("model.pdb")[0]) == 2
    mask = made("map.mrc", "--model", "model.pdb", "--select", "//A", "--radius", "6", "--soft", "0")
    place = (np.array([10.0, 44.0, 54.0]) - ORIGIN) - CENTRE * PIXEL
    assert np.array_equal(mask > 0, masks.sphere_mask(N, PIXEL, place, 6.0) > 0)


def test_masks_are_joined_in_the_order_given(folder: Path) -> None:
    grid = (N, PIXEL)
    a, b, c = (masks.sphere_mask(*grid, (x, 0, 0), 16.0, 8.0) for x in (-8, 0, 8))
    for name, mask in (("b", b), ("c", c)):
        io.write_volume(f"{name}.mrc", Volume(mask, PIXEL))
    io.write_volume("a.mrc", Volume(a, PIXEL, ORIGIN))
    start = ["a.mrc", "--threshold", "0.999", "--lowpass", "0", "--dilate", "0", "--soft", "0"]
    core = (a > np.float32(0.999)).astype(np.float32)
    assert np.array_equal(made(*start, "--or", "b.mrc", "--subtract", "c.mrc"), np.minimum(np.maximum(core, b), 1 - c))
    assert np.array_equal(made(*start, "--subtract", "c.mrc", "--or", "b.mrc"), np.maximum(np.minimum(core, 1 - c), b))
    assert np.array_equal(made(*start, "--and", "b.mrc", "--invert"), 1 - np.minimum(core, b))


def test_what_it_says_is_true(folder: Path, capsys: Out) -> None:
    mask = made("half1.mrc", "half2.mrc", "--json", "--fill", "--soft", "6")
    told = json.loads(capsys.readouterr().out)
    assert told["event"] == "mask"
    assert told["path"] == "mask.mrc"
    assert told["volume_A3"] == np.count_nonzero(mask > 0.5) * PIXEL**3
    assert told["mass_kDa"] == pytest.approx(told["volume_A3"] * 0.81e-3)
    assert told["fraction"] == pytest.approx(mask.mean())
    assert told["centre_px"] == pytest.approx(np.array(masks.centre_of_mass(mask)) + CENTRE)
    halves = [io.read_volume(f"half{i}.mrc").data for i in (1, 2)]
    dense = masks.lowpass(0.5 * (halves[0] + halves[1]), PIXEL, 12.0) > told["threshold"]
    assert told["density_A3"] == masks.largest_components(dense)[0].sum() * PIXEL**3
    assert told["parts"] == masks.largest_components(dense)[1]
    assert [check["name"] for check in told["checks"]] == ["values", "inside", "edge", "fraction", "border", "cut"]


def test_it_says_the_same_to_a_person(folder: Path, capsys: Out) -> None:
    made("map.mrc", "--resolution", "3", "--soft", "4", "--threshold", "0.3")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "threshold 0.3, map low-passed at 12 A"
    assert "kept from 2 connected components" in lines[1]
    assert lines[2] == "edge      dilated by 3 A, 4 A wide"
    assert "at 0.81 Da/A3" in lines[3]
    assert any(line.startswith("WARNING   the soft edge is") for line in lines)
    assert lines[-1] == "wrote mask.mrc"


def test_a_mask_of_shapes_is_judged_against_the_map_too(folder: Path, capsys: Out) -> None:
    made("map.mrc", "--sphere", "box", "12", "--json")
    told = json.loads(capsys.readouterr().out)
    assert "threshold" not in told
    assert told["checks"][-1]["name"] == "cut"
    assert not told["checks"][-1]["passed"]


def test_a_new_mask_takes_the_place_of_the_old(folder: Path) -> None:
    first = made("map.mrc")
    assert not np.array_equal(made("map.mrc", "--soft", "4"), first)


SPHERE = ["--sphere", "box", "12"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.mrc"], "none.mrc: cannot be read"),
        (["map.mrc", "half1.mrc", "half2.mrc"], "3 maps are given"),
        (["map.mrc", "--threshold", "99"], "threshold 99: no voxel of the map is above it"),
        (["map.mrc", "--threshold", "-99"], "threshold -99: all voxels"),
        (["map.mrc", "--threshold", "high"], "argument --threshold: 'high' is not a number"),
        (["map.mrc", "--threshold", "nan"], "'nan' is not a number"),
        (["map.mrc", "--soft", "-1"], "argument --soft: '-1' is below 0"),
        (["map.mrc", "--components", "-1"], "--components -1: write how many"),
        (["map.mrc", "--dilate", "-50"], "nothing is left after this erosion"),
        (["map.mrc", "--at", "1, 1, 1 px"], "point 1, 1, 1 px: is not in the region"),
        (
            ["map.mrc", "--at", "here"],
            "--at 'here': write a point as box, 'x, y, z px' or 'x, y, z A' (from the corner of the box), or 'x",
        ),
        (["map.mrc", "--sphere", "1,2,3", "5"], "--sphere '1,2,3': write a point as box"),
        (["map.mrc", "--sphere", "1,2,3-4 px", "5"], "--sphere '1,2,3-4 px': write a point"),
        (["map.mrc", "--sphere", "box", "wide"], "--sphere 'wide': is not a length"),
        (["map.mrc", "--sphere", "999,0,0 px", "5"], "sphere: no voxel of the box"),
        (["map.mrc", "--box", "box", "4,4"], "--box '4,4': write three numbers"),
        (["map.mrc", "--box", "box", "4,nan,4"], "--box '4,nan,4': write three numbers"),
        (["map.mrc", "--cylinder", "box", "w", "4", "9"], "--cylinder 'w': write three numbers"),
        (["map.mrc", "--threshold", "auto", "--sphere", "5,5,5 px", "4"], "no density above it lies inside the shapes"),
        (["map.mrc", "--select", "//A"], "give it by --model"),
        (["map.mrc", "--model", "none.pdb"], "none.pdb: no such file"),
        (["map.mrc", *SPHERE, "--and", "none.mrc"], "none.mrc: cannot be read"),
        (["map.mrc", *SPHERE, "--and", "small.mrc"], "small.mrc: the map is 8³ but map.mrc's box is 48: re-box"),
        (["map.mrc", *SPHERE, "--or", "coarse.mrc"], "coarse.mrc: voxel size 3 Å but map.mrc's voxel size is 2 Å"),
        (["map.mrc", *SPHERE, "--or", "half1.mrc"], "half1.mrc: values run from"),
        (["map.mrc", "small.mrc"], "small.mrc: the map is 8³ but map.mrc's box is 48: re-box"),
        (["small.mrc"], "no voxel above 0"),
        (["map.mrc", "--out", "map.mrc"], "map.mrc: is the input itself"),
        (["map.mrc", "--or", "all.mrc", "--out", "all.mrc"], "all.mrc: is the input itself"),
        (["map.mrc", "--out", "map.mrc/mask.mrc"], "map.mrc/mask.mrc: cannot be written (Not a directory)"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*the mask is binary")
def test_unusable_input_is_refused(arguments: list[str], words: str, folder: Path, capsys: Out) -> None:
    io.write_volume("small.mrc", Volume(np.zeros((8, 8, 8), np.float32), PIXEL))
    ones = np.ones((N, N, N), np.float32)
    ones[0, 0, 0] = 0.5
    io.write_volume("all.mrc", Volume(ones, PIXEL))
    io.write_volume("coarse.mrc", Volume(ones, 3.0))
    out = [] if "--out" in arguments else ["--out", "out.mrc"]
    assert words in refused(capsys, *arguments, *out)


def test_an_empty_mask_is_not_written(folder: Path, capsys: Out) -> None:
    made("map.mrc", *SPHERE, "--soft", "9")
    Path("mask.mrc").rename("sphere.mrc")
    message = refused(
        capsys, "map.mrc", "--sphere", "box", "4", "--soft", "4", "--subtract", "sphere.mrc", "--out", "out.mrc"
    )
    assert "out.mrc: is not written, the mask would be empty" in message


def test_without_gemmi_models_are_refused(folder: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("model.pdb").write_text("END\n")
    monkeypatch.setitem(sys.modules, "gemmi", None)
    assert "need gemmi" in refused(capsys, "map.mrc", "--model", "model.pdb", "--out", "out.mrc")
