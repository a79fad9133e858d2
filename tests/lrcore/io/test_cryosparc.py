"""CryoSPARC: files joined by uid, shifts in their own pixels; what is written keeps every other field."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging import rotations
from lrcore.io.cs_table import with_columns
from lrcore.records import Particles, Poses


def _same_poses(one: Poses, other: Poses, degree: float = 3e-5, angstrom: float = 1e-5) -> None:
    assert rotations.rotation_angle_deg(one.rotation, other.rotation).max() < degree
    np.testing.assert_allclose(one.origin_A, other.origin_A, rtol=0, atol=angstrom)


def _some_poses(n: int, seed: int = 8) -> Poses:
    rng = np.random.default_rng(seed)
    return Poses(rotations.rotation_exp(rng.normal(size=(n, 3))), rng.normal(0, 5, (n, 2)))


@pytest.fixture
def job(make) -> Path:
    """A .cs with all slots, made from a STAR file; a .csg lies beside it."""
    make.stack()
    particles = io.read_particles(make.star())
    path = make.folder / "J7" / "J7_particles.cs"
    path.parent.mkdir()
    io.write_particles(path, particles, particles.poses)
    return path


def _change(path: Path, **columns: object) -> np.ndarray:
    """Rewrite a .cs with other columns (slot__name); returns the new table."""
    table = np.load(path)
    table = with_columns(table, {name.replace("__", "/"): np.asarray(value) for name, value in columns.items()})
    np.save(path.open("wb"), table)
    return table


def _drop(path: Path, prefix: str) -> np.ndarray:
    table = np.load(path)
    table = table[[name for name in table.dtype.names if not name.startswith(prefix)]].copy()
    np.save(path.open("wb"), with_columns(table, {}))
    return table


def test_star_and_cs_describe_the_same_particles(make, job: Path) -> None:
    ours = io.read_particles(make.folder / "particles.star")
    for path in (job, job.with_suffix(".csg")):
        theirs = io.read_particles(path)
        _same_poses(ours.poses, theirs.poses)
        assert [replace(one, name="") for one in theirs.optics] == [replace(one, name="") for one in ours.optics]
        np.testing.assert_array_equal(theirs.uid, ours.uid)
        for field in ("half", "group"):
            np.testing.assert_array_equal(getattr(theirs, field), getattr(ours, field), err_msg=field)
        for field in ("defocus_A", "defocus_angle_rad", "phase_shift_rad", "bfactor_A2", "scale"):
            np.testing.assert_allclose(getattr(theirs, field), getattr(ours, field), rtol=1e-6, err_msg=field)
        np.testing.assert_array_equal(theirs.images.index, ours.images.index)
        assert theirs.images.stacks[0].samefile(ours.images.stacks[0])


def test_files_are_joined_by_uid_never_by_row(make, job: Path) -> None:
    whole = io.read_particles(job)
    table = np.load(job)
    order = np.random.default_rng(0).permutation(len(table))
    blob = table[["uid", *(name for name in table.dtype.names if name.startswith("blob/"))]][order]
    np.save((job.parent / "J7_passthrough_particles.cs").open("wb"), with_columns(blob, {}))
    _drop(job, "blob/")
    for path, metafile in ((job, None), (job.with_suffix(".csg"), ">J7_passthrough_particles.cs")):
        if metafile:
            group = yaml.safe_load(path.read_text())
            group["results"]["blob"]["metafile"] = metafile
            path.write_text(yaml.safe_dump(group))
        joined = io.read_particles(path)
        np.testing.assert_array_equal(joined.images.index, whole.images.index)
        np.testing.assert_array_equal(joined.uid, whole.uid)


def test_a_passthrough_of_another_job_is_not_taken(job: Path) -> None:
    table = np.load(job)
    np.save((job.parent / "J8_passthrough_particles.cs").open("wb"), table)
    _drop(job, "blob/")
    with pytest.raises(InputError, match="no passthrough file in its folder has slot blob"):
        io.read_particles(job)


def test_shifts_are_in_pixels_of_the_alignment(job: Path) -> None:
    before = io.read_particles(job)
    n = len(before)
    table = np.load(job)
    _change(
        job, alignments3D__psize_A=np.full(n, 2.4, "f4"), alignments3D__shift=table["alignments3D/shift"] * 1.5 / 2.4
    )
    after = io.read_particles(job)
    _same_poses(before.poses, after.poses)
    out = job.parent / "out.cs"
    io.write_particles(out, after, after.poses)
    np.testing.assert_allclose(np.load(out)["alignments3D/shift"], np.load(job)["alignments3D/shift"], rtol=1e-6)
    _same_poses(io.read_particles(out).poses, before.poses)


def test_sign_tilt_and_magnification(job: Path) -> None:
    n = len(np.load(job))
    _change(
        job,
        blob__sign=np.full(n, -1, "f4"),
        ctf__tilt_A=np.full((n, 2), (2.7e4, 0), "f4"),
        ctf__cs_mm=np.full(n, 2.7, "f4"),
        ctf__anisomag=np.full((n, 4), (0.01, 0.002, 0.003, -0.01), "f4"),
    )
    particles = io.read_particles(job)
    assert set(particles.images.sign) == {-1}
    optics = particles.optics[0]
    assert optics.beam_tilt_mrad[0] == pytest.approx(np.arcsin(1e-3) * 1e3)  # 2.7e4 Å of 2.7 mm
    assert optics.beam_tilt_mrad[1] == 0
    assert optics.mag_matrix == pytest.approx((1.01, 0.002, 0.003, 0.99))
    with pytest.warns(UserWarning, match="inverted contrast"):
        io.write_particles(job.parent / "out.star", particles, particles.poses)
    back = io.read_particles(job.parent / "out.star")
    assert [replace(one, name="") for one in back.optics] == [replace(one, name="") for one in particles.optics]


def test_of_several_classes_the_likeliest_counts(job: Path) -> None:
    expected = io.read_particles(job)
    table = np.load(job)
    n = len(table)
    best = np.arange(n) % 3
    columns = {}
    for name in ("pose", "shift", "psize_A", "split"):
        column = table[f"alignments3D/{name}"]
        columns[name] = np.repeat(column[:, None], 3, axis=1) + (np.arange(3) != best[:, None]).reshape(
            (n, 3) + (1,) * (column.ndim - 1)
        ).astype(column.dtype)
    columns["class_posterior"] = np.where(np.arange(3) == best[:, None], 0.5, 0.25).astype("f4")
    _drop(job, "alignments3D/")
    _change(job, **{f"alignments3D_multi__{name}": column for name, column in columns.items()})
    particles = io.read_particles(job)
    _same_poses(particles.poses, expected.poses)
    np.testing.assert_array_equal(particles.half, expected.half)
    poses = _some_poses(n)
    io.write_particles(job.parent / "out.cs", particles, poses)
    _same_poses(io.read_particles(job.parent / "out.csg").poses, poses)


def test_groups_follow_exposure_groups_and_their_constants(job: Path) -> None:
    n = len(np.load(job))
    _change(job, ctf__exp_group_id=np.arange(n) // 12 + 5, ctf__accel_kv=np.full(n, 300), ctf__cs_mm=np.full(n, 2.7))
    _change(job, ctf__amp_contrast=np.full(n, 0.1))
    particles = io.read_particles(job)
    assert [one.name for one in particles.optics] == ["exp_group_5", "exp_group_6"]
    np.testing.assert_array_equal(particles.group, np.arange(n) // 12)


def test_an_export_changes_nothing_but_the_poses(job: Path) -> None:
    n = len(np.load(job))
    rng = np.random.default_rng(1)
    before = _change(
        job,
        alignments3D__error=rng.normal(size=n),
        ctf__trefoil_A=rng.normal(size=(n, 2)),
        location__micrograph_path=np.full(n, b"mic.mrc"),
        location__micrograph_shape=np.full((n, 2), (3838, 3710), "u4"),
        location__center_x_frac=rng.uniform(size=n),
        location__center_y_frac=rng.uniform(size=n),
    )
    particles = io.read_particles(job)
    rows = np.array([17, 2, 9, 4])
    poses = _some_poses(4)
    out = job.parent / "J8.cs"
    io.write_particles(out, particles.select(rows), poses, {"lrwAngleChange": np.arange(4.0)})
    after = np.load(out)
    changed = {"alignments3D/pose", "alignments3D/shift"}
    for name in before.dtype.names:
        if name not in changed:
            np.testing.assert_array_equal(after[name], before[name][rows], err_msg=name)
            assert after.dtype[name] == before.dtype[name]
    np.testing.assert_array_equal(after["lrw/AngleChange"], np.arange(4.0))
    group = yaml.safe_load((job.parent / "J8.csg").read_text())["results"]
    assert set(group) >= {"blob", "ctf", "alignments3D", "location"}
    assert all(slot["metafile"] == ">J8.cs" and slot["num_items"] == 4 for slot in group.values())
    star = job.parent / "J8.star"
    io.write_particles(star, particles.select(rows), poses)
    table = io.read_particles(star).source.table
    assert table["rlnMicrographName"].tolist() == ["mic.mrc"] * 4
    expected_y = (1 - before["location/center_y_frac"][rows]) * 3838
    np.testing.assert_allclose(table["rlnCoordinateY"].astype(float), expected_y, rtol=1e-6)


def test_stacks_are_found_from_an_export_in_another_folder(make, job: Path) -> None:
    particles = io.read_particles(job)
    inside, outside = make.folder / "J9" / "a.cs", make.folder.parent / f"{make.folder.name}-outside" / "a.cs"
    for path in (inside, outside):
        path.parent.mkdir()
        io.write_particles(path, particles, particles.poses)
        assert io.read_particles(path).images.stacks[0].samefile(particles.images.stacks[0])
    assert np.load(outside)["blob/path"][0].startswith(b">../")


def test_the_input_is_never_replaced(job: Path) -> None:
    particles = io.read_particles(job.with_suffix(".csg"))
    before = job.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        io.write_particles(job, particles, particles.poses)
    assert job.read_bytes() == before


def test_what_cs_cannot_say_is_a_warning(make) -> None:
    make.stack()
    optics = make.optics() | {"rlnEvenZernike": ["[0.1]", "[]"], "rlnCtfDataAreCtfPremultiplied": [1, 1]}
    particles = io.read_particles(make.star(optics=optics))
    with pytest.warns(UserWarning, match="not written") as caught:
        io.write_particles(make.folder / "a.cs", particles, particles.poses)
    messages = " ".join(str(one.message) for one in caught)
    assert "no field for the Zernike polynomials Z(0,0) of first" in messages
    assert "CTF-premultiplied" in messages


def test_cryosparc_tools_reads_what_is_written(job: Path) -> None:
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset.load(job)
    table = np.load(job)
    np.testing.assert_array_equal(dataset["uid"], table["uid"])
    np.testing.assert_array_equal(dataset["alignments3D/pose"], table["alignments3D/pose"])
    assert {"blob", "ctf", "alignments3D"} <= set(dataset.prefixes())


def _by_slice(particles: Particles) -> tuple[Poses, np.ndarray]:
    order = np.argsort(particles.images.index)
    return particles.poses.select(order), particles.half[order]


@pytest.mark.parametrize("name", ["P1_J42_particles.csg", "J42_010_particles.cs"])
def test_the_same_data_from_star_and_cryosparc(test_data, name: str) -> None:
    """Traps: shifts in pixels of another box, and rows in another order."""
    folder = test_data("two_body")
    ours, our_half = _by_slice(io.read_particles(folder / "particles.star"))
    theirs, their_half = _by_slice(io.read_particles(folder / "J42" / name))
    _same_poses(ours, theirs, degree=1e-4, angstrom=1e-4)
    np.testing.assert_array_equal(our_half, their_half)


def test_half_maps_of_a_volume_group(test_data) -> None:
    folder = test_data("two_body")
    for name in ("P1_J42_volume.csg", "J42_010_volume.cs"):
        first, second = io.read_half_maps(folder / "J42" / name)
        assert (first, second) == (folder / "consensus_half1.mrc", folder / "consensus_half2.mrc")


def test_real_refinement_of_an_old_version(test_data, tmp_path: Path, sparse_stack) -> None:
    folder = test_data("formats") / "cryosparc_v2_t20s"
    table = np.load(folder / "cryosparc_P9_J209_000_particles.cs")
    for name in np.unique(table["blob/path"]):
        sparse_stack(tmp_path / name.decode(), table["blob/idx"][table["blob/path"] == name].max() + 1, 256)
    particles = io.read_particles(folder / "cryosparc_P9_J209_000_particles.cs", tmp_path)
    assert (len(particles), particles.box, particles.pixel_size_A) == (11764, 256, 1.0273438)
    assert set(particles.images.sign) == {-1}
    np.testing.assert_array_equal(np.bincount(particles.half), [0, 5882, 5882])
    np.testing.assert_allclose(particles.poses.origin_A, table["alignments3D/shift"] * 1.0273438, rtol=1e-6)
    with pytest.raises(InputError, match=r"metafile does not exist: .*J209_passthrough_particles.cs \(slot .*blob"):
        io.read_particles(folder / "P9_J209_particles.csg")
    with pytest.raises(InputError, match=r"map J209/.*half_A.mrc of slot map_half_A does not exist"):
        io.read_half_maps(folder / "P9_J209_volume.csg")
