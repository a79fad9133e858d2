"""What `info` tells: facts for a person and for JSON, and what a file lacks instead of a refusal."""

import json

import mrcfile
import numpy as np
import pytest

from lrcore import io
from lrcore.io.cs_table import with_columns


def test_particles(make) -> None:
    make.stack()
    optics = make.optics() | {"rlnBeamTiltX": [0.1, 0.0], "rlnBeamTiltY": [0.1, 0.0]}
    facts = io.describe_file(make.star(optics=optics))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["kind"] == "particles, RELION 3.1 or later"
    assert (facts["rows"], facts["stacks"], facts["poses"], facts["missing"]) == (make.count, 1, True, [])
    assert facts["half_sets"] == {"1": 12, "2": 12}
    assert (facts["box"], facts["pixel_size_A"]) == ([make.box], [make.pixel])
    assert [group["aberrations"] for group in facts["optics_groups"]] == [["beam tilt"], []]
    columns = make.columns()
    assert facts["defocus_A"] == [min(columns["rlnDefocusV"]), max(columns["rlnDefocusU"])]


def test_what_a_table_lacks_is_told_not_refused(make) -> None:
    facts = io.describe_file(make.star(without=("rlnAngleRot", "rlnRandomSubset", "rlnDefocusU")))
    assert (facts["poses"], facts["half_sets"], facts["defocus_A"]) == (False, None, None)
    assert [line.partition(":")[0] for line in facts["missing"][:3]] == ["poses", "half sets", "CTF"]
    assert "stacks/particles.mrcs does not exist" in facts["missing"][3]
    make.stack()
    one_half = io.describe_file(make.star(rlnRandomSubset=[1] * make.count))
    assert one_half["missing"] == ["half sets: all particles are in set 1"]


def test_cryosparc_particles(make) -> None:
    make.stack()
    particles = io.read_particles(make.star())
    io.write_particles(make.folder / "a.cs", particles, particles.poses)
    for name in ("a.cs", "a.csg"):
        facts = io.describe_file(make.folder / name)
        assert json.loads(json.dumps(facts)) == facts
        assert (facts["kind"], facts["rows"], facts["missing"]) == ("particles, CryoSPARC", make.count, [])
        assert facts["half_sets"] == {"1": 12, "2": 12}
    table = np.load(make.folder / "a.cs")
    np.save((make.folder / "b.cs").open("wb"), with_columns(table[["uid", "blob/path", "blob/idx"]], {}))
    facts = io.describe_file(make.folder / "b.cs")
    assert facts["poses"] is False
    assert {line.partition(":")[0] for line in facts["missing"]} == {"blob", "ctf", "alignments3D", "half sets"}


@pytest.mark.parametrize(
    ("low", "levels", "mask", "binary"), [(0, 2, True, True), (0, 9, True, False), (-1, 9, False, False)]
)
def test_a_mask_is_told_from_a_map(tmp_path, low: float, levels: int, mask: bool, binary: bool) -> None:
    data = np.linspace(low, 1, levels, dtype=np.float32)[np.random.default_rng(0).integers(0, levels, (9, 9, 9))]
    mrcfile.write(tmp_path / "map.mrc", data)  # without a voxel size, which is told too
    facts = io.describe_file(tmp_path / "map.mrc")
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["kind"], facts["shape_zyx"], facts["mode"], facts["voxel_size_A"]) == ("map", [9, 9, 9], 2, None)
    assert (facts["looks_like_mask"], facts["binary_mask"]) == (mask, binary)
    assert (facts["mean"], facts["std"]) == pytest.approx((data.mean(), data.std()), rel=1e-5)


def test_a_stack(make) -> None:
    facts = io.describe_file(make.stack())
    assert (facts["kind"], facts["images"], facts["statistics_of_images"]) == ("stack", make.count, make.count)
    data = mrcfile.read(make.folder / "stacks" / "particles.mrcs")
    assert (facts["min"], facts["max"]) == (data.min(), data.max())
    assert facts["voxel_size_A"][0] == make.pixel


def test_real_files(test_data) -> None:
    formats = test_data("formats")
    facts = io.describe_file(formats / "cryodrgn_small" / "empiar_10076_7.star")
    assert (facts["rows"], facts["poses"], facts["half_sets"], facts["box"]) == (7, False, None, [320])
    facts = io.describe_file(formats / "cryosparc_v2_t20s" / "P9_J209_volume.csg")
    assert facts["slots"]["map_half_A"] == "J209/cryosparc_P9_J209_005_volume_map_half_A.mrc"
    assert any("slot precision" in line for line in facts["missing"])
    assert io.describe_file(formats / "multibody_90" / "bodies_body_1_final.mrc.gz")["binary_mask"] is True
