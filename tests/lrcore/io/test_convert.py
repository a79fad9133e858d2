"""STAR → .cs → STAR and .cs → STAR → .cs: nothing is lost on the way there and back."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lrcore import io
from lrcore.imaging import rotations
from lrcore.io import convert, cs_table, star_particles, star_table, star_text
from lrwidgets.cli._main import main
from tests.lrcore.io.conftest import Maker

POSE = [*convert.ANGLES]


def _there_and_back(original: Path, folder: Path, kind: str) -> Path:
    there, back = folder / f"there{kind}", folder / f"back{original.suffix}"
    assert main(["convert", str(original), str(there)]) == 0
    assert main(["convert", str(there), str(back)]) == 0
    return back


def _same_text(before: pd.Series, after: pd.Series, name: str) -> None:
    one, other = (pd.to_numeric(column, errors="coerce") for column in (before, after))
    if one.notna().all():
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-12, err_msg=name)
    else:
        assert after.tolist() == before.tolist(), name


def _same_star(original: Path, back: Path) -> None:
    one, other = (star_table.read_source(path) for path in (original, back))
    assert set(one.table.columns) <= set(other.table.columns)
    for name in [column for column in one.table.columns if column not in (*POSE, convert.IMAGE)]:
        _same_text(one.table[name], other.table[name], name)
    (index, names), (index2, names2) = (star_table.parse_image_names(s.path, s.table) for s in (one, other))
    np.testing.assert_array_equal(index, index2)
    assert names.tolist() == names2.tolist()
    pixel = np.ones(len(index))
    poses = [star_particles.read_poses(source, pixel) for source in (one, other)]
    assert rotations.rotation_angle_deg(poses[0].rotation, poses[1].rotation).max() < 1e-5
    assert one.optics is not None
    assert other.optics is not None
    optics, optics2 = one.blocks[one.optics], other.blocks[other.optics]
    assert set(optics.columns) <= set(optics2.columns)
    for name in optics.columns:
        _same_text(optics[name], optics2[name], name)


def _same_cs(original: Path, back: Path) -> None:
    one, other = (cs_table.read_array(path) for path in (original, back))
    assert set(one.dtype.names) <= set(other.dtype.names)
    for name in one.dtype.names:
        if one.dtype[name].base.kind in "SU":
            assert one[name].tolist() == other[name].tolist(), name
        elif name == convert.POSE:
            a, b = (rotations.from_cryosparc(table[name]) for table in (one, other))
            assert rotations.rotation_angle_deg(a, b).max() < 1e-5
        else:
            assert one.dtype[name] == other.dtype[name], name
            np.testing.assert_allclose(other[name], one[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_real_relion_particles_come_back(test_data, tmp_path: Path) -> None:
    original = test_data("formats") / "relion_refine3d_betagal" / "run_it016_data.star"
    _same_star(original, _there_and_back(original, tmp_path, ".cs"))


def test_made_relion_particles_come_back(make, tmp_path: Path) -> None:
    original = make.star()
    _same_star(original, _there_and_back(original, tmp_path, ".cs"))


@pytest.mark.parametrize("changed", [False, True])
def test_real_cryosparc_particles_come_back(test_data, tmp_path: Path, changed: bool) -> None:
    """The real job has no aberrations; given some, in two exposure groups, it comes back all the same."""
    original = test_data("formats") / "cryosparc_v2_t20s" / "cryosparc_P9_J209_000_particles.cs"
    if changed:
        table = np.load(original)
        second = np.arange(len(table)) % 2 == 1
        table["ctf/exp_group_id"] = 3 + second
        table["ctf/tilt_A"] = [1234.5, -678.9]
        table["ctf/tetra_A"] = [1.0, -2.0, 3.5, 4.25]
        table["ctf/trefoil_A"][second] = [17.0, -3.0]
        table["ctf/anisomag"] = [0.01, 0.002, -0.003, -0.01]
        table["alignments3D/psize_A"] *= 1.5
        original = tmp_path / "changed.cs"
        np.save(original.open("wb"), table)
    _same_cs(original, _there_and_back(original, tmp_path, ".star"))


def test_converted_particles_are_refined_alike(make, tmp_path: Path) -> None:
    """Aberrations that CryoSPARC has no field for are still applied by us."""
    make.stack()
    optics = make.optics() | {
        "rlnOddZernike": ["[0.1,-0.2]", "[]"],
        "rlnEvenZernike": ["[1.5]", "[0,2]"],
        "rlnBeamTiltX": [0.3, 0.0],
        "rlnBeamTiltY": [-0.1, 0.2],
        "rlnCtfDataAreCtfPremultiplied": [1, 0],
    }
    original = make.star(optics=optics)
    assert main(["convert", str(original), str(make.folder / "there.cs")]) == 0
    ours, theirs = (io.read_particles(path) for path in (original, make.folder / "there.cs"))
    np.testing.assert_array_equal(ours.uid, theirs.uid)
    np.testing.assert_array_equal(ours.half, theirs.half)
    np.testing.assert_array_equal(ours.group, theirs.group)
    np.testing.assert_allclose(ours.poses.origin_A, theirs.poses.origin_A, rtol=1e-6)
    for one, other in zip(ours.optics, theirs.optics, strict=True):
        for name in ("odd_zernike", "even_zernike", "ctf_premultiplied"):
            assert getattr(one, name) == getattr(other, name), name
        assert other.beam_tilt_mrad == pytest.approx(one.beam_tilt_mrad, rel=1e-6)
        # CryoSPARC keeps float32
        assert other.cs_mm == pytest.approx(one.cs_mm, rel=1e-6)


def test_inverted_contrast_is_read_from_a_converted_file(make, capsys) -> None:
    make.stack()
    assert main(["convert", str(make.star()), str(make.folder / "a.cs")]) == 0
    table = np.load(make.folder / "a.cs")
    sign = cs_table.with_columns(table, {"blob/sign": np.full(len(table), -1, np.float32)})
    np.save((make.folder / "b.cs").open("wb"), sign)
    assert main(["convert", str(make.folder / "b.cs"), str(make.folder / "b.star")]) == 0
    assert "inverted contrast" in capsys.readouterr().err
    assert set(io.read_particles(make.folder / "b.star").images.sign) == {-1}


def test_an_output_that_is_no_particle_file_is_refused(make, capsys) -> None:
    assert main(["convert", str(make.star()), str(make.folder / "a.txt")]) == 2
    assert "a.txt: unknown type: name the file .star or .cs" in capsys.readouterr().err


def test_cryosparc_tools_reads_a_converted_file(make) -> None:
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    path = make.folder / "a.cs"
    assert main(["convert", str(make.star()), str(path)]) == 0
    table, loaded = np.load(path), dataset.load(path)
    assert {"blob", "ctf", "alignments3D"} <= set(loaded.prefixes())
    for name in ("uid", "alignments3D/pose", "alignments3D/shift", "ctf/df1_A"):
        np.testing.assert_array_equal(loaded[name], table[name])


def cryosparc_there_and_back(folder: Path, table: np.ndarray, **edits: list[str]) -> np.ndarray:
    with (folder / "a.cs").open("wb") as file:
        np.save(file, table)
    blocks = convert.cs_to_star(cs_table.read_source(folder / "a.cs"))
    blocks["particles"] = blocks["particles"].assign(**edits)
    star_text.write_blocks(folder / "b.star", blocks)
    return convert.star_to_cs(star_table.read_source(folder / "b.star"))


@pytest.fixture
def located(make: Maker) -> np.ndarray:
    table = convert.star_to_cs(star_table.read_source(make.star()))
    n = len(table)
    columns = {
        "location/micrograph_path": np.array([b">M/1.mrc"] * n),
        "location/micrograph_shape": np.full((n, 2), (4000, 6000), "u4"),
        "location/center_x_frac": np.linspace(0.1, 0.9, n).astype("f4"),
        "location/center_y_frac": np.linspace(0.8, 0.2, n).astype("f4"),
    }
    kept = [name for name in table.dtype.names if not name.startswith("star")]
    return cs_table.with_columns(table[kept], columns)


def test_what_was_edited_in_star_wins_over_what_travelled(located: np.ndarray, tmp_path: Path) -> None:
    blocks = convert.cs_to_star(cs_table.CsSource(tmp_path / "a.cs", located, {}, {}, (), ""))["particles"]
    x, y, names = ([*blocks[name]] for name in ("rlnCoordinateX", "rlnCoordinateY", "rlnMicrographName"))
    x[3], y[5], names[7] = "123.5", "77.25", "Other/é.mrc"
    back = cryosparc_there_and_back(tmp_path, located, rlnCoordinateX=x, rlnCoordinateY=y, rlnMicrographName=names)
    assert back["location/center_x_frac"][3] * 6000 == pytest.approx(123.5, rel=1e-6)
    assert (1 - back["location/center_y_frac"][5]) * 4000 == pytest.approx(77.25, rel=1e-4)
    assert back["location/micrograph_path"][7].decode() == "Other/é.mrc"
    for name, row in (("center_x_frac", 3), ("center_y_frac", 5), ("micrograph_path", 7)):
        field = f"location/{name}"
        others = np.arange(len(located)) != row
        np.testing.assert_array_equal(back[field][others], located[field][others])
    # And it is what the next conversion says.
    with (tmp_path / "c.cs").open("wb") as file:
        np.save(file, back)
    again = convert.cs_to_star(cs_table.read_source(tmp_path / "c.cs"))["particles"]
    assert float(again["rlnCoordinateX"].iloc[3]) == pytest.approx(123.5, rel=1e-5)
    assert again["rlnMicrographName"].iloc[7] == "Other/é.mrc"
