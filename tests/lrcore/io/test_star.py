"""STAR particles: RELION 3.0 to 5 read alike; what is written loses nothing, and RELION reconstructs from it."""

import subprocess
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging import rotations
from lrcore.io import cs_particles, star_particles
from lrcore.records import Particles, Poses

NEW = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]


def _read(make, **change) -> Particles:
    make.stack()
    return io.read_particles(make.star(**change))


def _some_poses(n: int, seed: int = 8) -> Poses:
    rng = np.random.default_rng(seed)
    angles = rng.uniform([-180, 0, -180], [180, 180, 180], (n, 3))
    return Poses(rotations.from_euler(angles), rng.normal(0, 5, (n, 2)))


def _same_poses(one: Poses, other: Poses, degree: float = 1e-5, angstrom: float = 1e-5) -> None:
    assert rotations.rotation_angle_deg(one.rotation, other.rotation).max() < degree
    np.testing.assert_allclose(one.origin_A, other.origin_A, rtol=0, atol=angstrom)


def _text(path: Path) -> dict:
    names = {line.split()[0][1:] for line in path.read_text().splitlines() if line.startswith("_")}
    return starfile.read(path, always_dict=True, parse_as_string=sorted(names))


def test_every_field_of_the_records(make) -> None:
    optics = make.optics() | {
        "rlnBeamTiltX": [0.1, 0.0],
        "rlnBeamTiltY": [-0.2, 0.0],
        "rlnOddZernike": ["[0.1,0.2,-0.3]", "[]"],
        "rlnEvenZernike": ["[1.5]", "[2.5,3.5]"],
        **{
            f"rlnMagMat{name}": [value, value]
            for name, value in zip(("00", "01", "10", "11"), (1.01, 2e-3, 3e-3, 0.99), strict=True)
        },
        "rlnCtfDataAreCtfPremultiplied": [0, 1],
    }
    particles = _read(make, optics=optics, rlnPhaseShift=[90.0] * make.count)
    columns = make.columns()
    first, second = particles.optics
    assert (first.voltage_kV, first.cs_mm, first.amplitude_contrast, first.box) == (300, 2.7, 0.1, make.box)
    assert (second.voltage_kV, second.cs_mm, second.amplitude_contrast) == (200, 1.4, 0.07)
    assert (first.beam_tilt_mrad, second.beam_tilt_mrad) == ((0.1, -0.2), (0.0, 0.0))
    assert (first.odd_zernike, second.odd_zernike) == ((0.1, 0.2, -0.3), ())
    assert (first.even_zernike, second.even_zernike) == ((1.5,), (2.5, 3.5))
    assert first.mag_matrix == (1.01, 2e-3, 3e-3, 0.99)
    assert (first.ctf_premultiplied, second.ctf_premultiplied) == (False, True)
    np.testing.assert_array_equal(particles.group, np.array(columns["rlnOpticsGroup"]) - 1)
    np.testing.assert_array_equal(particles.half, columns["rlnRandomSubset"])
    np.testing.assert_array_equal(particles.defocus_A.T, [columns["rlnDefocusU"], columns["rlnDefocusV"]])
    np.testing.assert_allclose(particles.defocus_angle_rad, np.radians(columns["rlnDefocusAngle"]))
    np.testing.assert_allclose(particles.phase_shift_rad, np.pi / 2)
    assert set(particles.bfactor_A2) == {20.0}
    assert set(particles.scale) == {0.9}
    np.testing.assert_array_equal(particles.images.index, np.arange(make.count))
    angles = np.array([columns[name] for name in NEW[:3]]).T
    assert rotations.rotation_angle_deg(particles.poses.rotation, rotations.from_euler(angles)).max() < 1e-6
    np.testing.assert_array_equal(particles.poses.origin_A.T, [columns[name] for name in NEW[3:]])


def test_relion_30_and_31_describe_the_same_particles(make) -> None:
    new = _read(make)
    old = io.read_particles(make.old_star())
    _same_poses(new.poses, old.poses, angstrom=1e-9)
    assert [replace(one, name="") for one in old.optics] == [replace(one, name="") for one in new.optics]
    for field in ("uid", "half", "group", "defocus_A", "defocus_angle_rad", "bfactor_A2", "scale"):
        np.testing.assert_array_equal(getattr(old, field), getattr(new, field), err_msg=field)


def test_a_table_of_one_optics_group_and_its_block_after_the_particles(make) -> None:
    make.stack()
    path = make.star(
        optics={name: values[:1] for name, values in make.optics().items()}, rlnOpticsGroup=[1] * make.count
    )
    optics, _, particles = path.read_text().partition("data_particles")
    path.write_text("data_particles" + particles + "\n# version 30001\n" + optics)
    assert len(io.read_particles(path).optics) == 1


def test_box_comes_from_the_stack_where_the_table_does_not_say_it(make) -> None:
    assert _read(make, without=("rlnImageSize",)).box == make.box


def test_ids_are_stable_and_those_of_repeated_images_differ(make) -> None:
    names = make.columns()["rlnImageName"]
    particles = _read(make, rlnImageName=[names[0], *names[:-1]])
    assert len(set(particles.uid.tolist())) == make.count
    # Stored on 2026-11-23: blake2b-64 of "1@stacks/particles.mrcs" and of its first repetition.
    assert particles.uid[:2].tolist() == [13279211647537194150, 8158413332999183247]
    again = io.read_particles(make.star("again.star", rlnImageName=[names[0].lstrip("0"), *names[:-1]]))
    np.testing.assert_array_equal(again.uid, particles.uid)


def test_stacks_are_found_in_the_project_folder_or_where_the_user_says(make) -> None:
    stack = make.stack()
    deep = make.star("Refine3D/job001/run_data.star")
    assert io.read_particles(deep).images.stacks == (stack,)
    elsewhere = make.folder / "elsewhere"
    elsewhere.mkdir()
    stack.rename(elsewhere / "particles.mrcs")
    with pytest.raises(InputError, match=r"row 1: stack stacks/particles.mrcs does not exist.*--images DIR"):
        io.read_particles(deep)
    assert io.read_particles(deep, elsewhere).images.stacks == (elsewhere / "particles.mrcs",)


def test_an_export_changes_nothing_but_the_poses(make) -> None:
    particles = _read(make)
    poses = _some_poses(make.count)
    out = make.folder / "out.star"
    extra = {"lrwAngleChange": np.linspace(0, 1, make.count), "lrwFlags": np.arange(make.count, dtype=np.uint8)}
    io.write_particles(out, particles, poses, extra)
    before, after = _text(particles.path), _text(out)
    assert list(after) == ["optics", "particles"]
    assert after["optics"].equals(before["optics"])
    kept = [name for name in before["particles"].columns if name not in NEW]
    assert after["particles"][kept].equals(before["particles"][kept])
    assert after["particles"]["rlnMicrographName"].iloc[0] == "0070"  # text, although it looks like a number
    np.testing.assert_array_equal(after["particles"]["lrwFlags"].astype(int), extra["lrwFlags"])
    np.testing.assert_allclose(after["particles"]["lrwAngleChange"].astype(float), extra["lrwAngleChange"], atol=1e-6)
    back = io.read_particles(out)
    _same_poses(back.poses, poses)
    np.testing.assert_array_equal(back.uid, particles.uid)


def test_an_export_of_some_particles_in_another_order(make) -> None:
    particles = _read(make)
    rows = np.array([20, 3, 11])
    io.write_particles(make.folder / "out.star", particles.select(rows), particles.poses.select(rows))
    table = _text(make.folder / "out.star")["particles"]
    assert table["someUnknownColumn"].tolist() == ["keep-20", "keep-3", "keep-11"]
    assert table["rlnImageName"].tolist() == [make.columns()["rlnImageName"][row] for row in rows]


def test_a_relion_30_table_is_written_as_31(make) -> None:
    make.stack()
    old = io.read_particles(make.old_star())
    io.write_particles(make.folder / "new.star", old, old.poses)
    table = _text(make.folder / "new.star")["particles"]
    assert not {"rlnVoltage", "rlnMagnification", "rlnOriginX"} & set(table.columns)
    back = io.read_particles(make.folder / "new.star")
    _same_poses(back.poses, old.poses)
    assert back.optics == old.optics
    np.testing.assert_array_equal(back.group, old.group)
    assert table["someUnknownColumn"].tolist() == make.columns()["someUnknownColumn"]


@pytest.mark.parametrize(
    ("out", "name"),
    [
        ("here.star", "stacks/particles.mrcs"),
        ("Refine3D/job002/there.star", "stacks/particles.mrcs"),
        ("../outside/there.star", "../{folder}/stacks/particles.mrcs"),
    ],
)
def test_image_names_lead_to_the_stack_from_the_new_place(make, out: str, name: str) -> None:
    particles = _read(make)
    path = make.folder / out
    path.parent.mkdir(parents=True, exist_ok=True)
    io.write_particles(path, particles, particles.poses)
    assert _text(path)["particles"]["rlnImageName"].iloc[1] == "000002@" + name.format(folder=make.folder.name)
    assert io.read_particles(path).images.stacks[0].samefile(particles.images.stacks[0])


def test_the_same_export_gives_the_same_bytes(make) -> None:
    particles = _read(make)
    for name in ("one.star", "two.star"):
        io.write_particles(make.folder / name, particles, particles.poses)
    assert (make.folder / "one.star").read_bytes() == (make.folder / "two.star").read_bytes()


def test_the_input_is_never_replaced(make) -> None:
    particles = _read(make)
    before = particles.path.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        io.write_particles(particles.path, particles, particles.poses)
    assert particles.path.read_bytes() == before


VECTOR = hnp.arrays(np.float64, (24, 3), elements=st.floats(-np.pi, np.pi))
SHIFT = hnp.arrays(np.float64, (24, 2), elements=st.floats(-200, 200))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector=VECTOR, shift=SHIFT)
def test_any_pose_survives_star_and_cs(make, vector: np.ndarray, shift: np.ndarray) -> None:
    particles = _read(make)
    poses = Poses(rotations.rotation_exp(vector), shift)
    io.write_particles(make.folder / "out.star", particles, poses)
    _same_poses(io.read_particles(make.folder / "out.star").poses, poses)
    io.write_particles(make.folder / "out.cs", particles, poses)
    # float32 rotation vectors and pixels: 2e-7 rad and 200 Å · 6e-8 at most.
    _same_poses(io.read_particles(make.folder / "out.cs").poses, poses, degree=3e-5, angstrom=3e-5)


def _reconstruct(program: str, path: Path) -> np.ndarray:
    command = [program, "--i", path.name, "--o", "map.mrc", "--ctf"]
    subprocess.run(command, cwd=path.parent, check=True, capture_output=True)
    return mrcfile.read(path.parent / "map.mrc")


def _agree(one: np.ndarray, other: np.ndarray) -> None:
    assert np.std(one) > 0
    assert np.abs(one - other).max() < 1e-4 * np.std(one)


def test_relion_reconstructs_the_same_from_what_we_write(make, relion, tmp_path_factory) -> None:
    program = relion("relion_reconstruct")
    particles = _read(make)
    expected = _reconstruct(program, particles.path)
    outside = tmp_path_factory.mktemp("outside") / "again.star"
    io.write_particles(outside, particles, particles.poses)
    _agree(_reconstruct(program, outside), expected)
    old = io.read_particles(make.old_star())
    io.write_particles(make.folder / "from_old.star", old, old.poses)
    _agree(_reconstruct(program, make.folder / "from_old.star"), expected)


def test_relion_reconstructs_the_same_from_cryosparc_particles(make, relion) -> None:
    """A stack called .mrc, as CryoSPARC writes them, needs the `:mrcs` in its name."""
    program = relion("relion_reconstruct")
    particles = _read(make)
    io.write_particles(make.folder / "job.cs", particles, particles.poses)
    rounded = io.read_particles(make.folder / "job.cs").poses
    # Few images of a small box leave empty Fourier samples, where RELION's map jumps at a turn of 1e-7 rad: so the
    # poses are those of the .cs, rounded to float32, in both.
    io.write_particles(make.folder / "rounded.star", particles, rounded)
    expected = _reconstruct(program, make.folder / "rounded.star")
    stack = particles.images.stacks[0].rename(make.folder / "stacks" / "particles.mrc")
    moved = replace(particles, images=replace(particles.images, stacks=(stack,)))
    io.write_particles(make.folder / "moved.cs", moved, particles.poses)
    ours = io.read_particles(make.folder / "moved.csg")
    assert ours.images.stacks == (stack,)
    io.write_particles(make.folder / "ours.star", ours, ours.poses)
    assert _text(make.folder / "ours.star")["particles"]["rlnImageName"].iloc[0] == "000001@stacks/particles.mrc:mrcs"
    _agree(_reconstruct(program, make.folder / "ours.star"), expected)


def test_relion_refine3d_is_read_and_written_back_without_loss(test_data, tmp_path: Path, sparse_stack) -> None:
    original = test_data("formats") / "relion_refine3d_betagal" / "run_it016_data.star"
    before = _text(original)
    stacks = before["particles"]["rlnImageName"].str.partition("@")
    for name, slices in stacks.groupby(2)[0]:
        sparse_stack(tmp_path / name, slices.astype(int).max(), 256)
    particles = io.read_particles(original, tmp_path)
    optics = particles.optics[0]
    assert (len(particles), particles.box, particles.pixel_size_A) == (4748, 256, 1.244835)
    assert optics.odd_zernike == (-0.140006609061, 0.0834170214934, 1.15559317212, 0, 0, -1.3038997201)
    assert len(optics.even_zernike) == 9
    assert optics.mag_matrix == (1.002971, 0.001953, 0.002070, 0.998469)
    assert optics.beam_tilt_mrad == (0.017075, -0.14782)
    io.write_particles(tmp_path / "Refine3D.star", particles, particles.poses)
    after = _text(tmp_path / "Refine3D.star")
    assert after["optics"].equals(before["optics"])
    kept = [name for name in before["particles"].columns if name not in NEW]
    assert after["particles"][kept].equals(before["particles"][kept])
    _same_poses(io.read_particles(tmp_path / "Refine3D.star").poses, particles.poses)


def test_real_relion_30_and_31(test_data) -> None:
    folder = test_data("formats") / "relion_small"
    old = io.read_particles(folder / "sample_particles_relion30.star")
    new = io.read_particles(folder / "sample_particles_relion31.star")
    assert [one.voltage_kV for one in old.optics] == [one.voltage_kV for one in new.optics] == [300.0, 200.0]
    assert old.pixel_size_A == pytest.approx(5e4 / 37369.207031)
    assert (old.box, new.box, new.pixel_size_A) == (200, 200, 1.4)
    np.testing.assert_array_equal(old.group, new.group)
    table = starfile.read(folder / "sample_particles_relion30.star")
    np.testing.assert_allclose(old.poses.origin_A[:, 0], table["rlnOriginX"] * old.pixel_size_A)


def test_two_descriptions_of_the_same_images_agree(test_data) -> None:
    """Without poses or half sets these particles cannot be refined; their CTF and pixel size can be compared."""
    folder = test_data("formats") / "cryodrgn_small"
    table = star_particles.read_source(folder / "empiar_10076_7.star")
    source = cs_particles.read_source(folder / "empiar_10076_7.cs")
    _, (ours,) = star_particles.read_groups(table, star_particles.box_reader(star_particles.read_images(table)))
    _, (theirs,) = cs_particles.read_groups(source)
    assert ours.pixel_size_A == pytest.approx(theirs.pixel_size_A, rel=1e-7)
    for field in ("voltage_kV", "cs_mm", "amplitude_contrast", "box", "mag_matrix", "beam_tilt_mrad"):
        assert getattr(ours, field) == getattr(theirs, field), field
    defocus = np.array([star_particles.float_column(table.path, table.table, name) for name in star_particles.DEFOCUS])
    np.testing.assert_allclose(defocus[0], source.table["ctf/df1_A"], rtol=1e-6)
    np.testing.assert_allclose(defocus[1], source.table["ctf/df2_A"], rtol=1e-6)
    np.testing.assert_allclose(np.radians(defocus[2]), source.table["ctf/df_angle_rad"], rtol=1e-6)


def test_optics_after_particles_is_the_same_as_before(test_data) -> None:
    folder = test_data("formats") / "cryodrgn_small"
    one, other = (star_particles.read_source(folder / name) for name in ("relion31.star", "relion31.v2.star"))
    assert one.table.equals(other.table)
    groups = [
        star_particles.read_groups(source, star_particles.box_reader(star_particles.read_images(source)))
        for source in (one, other)
    ]
    assert groups[0][1] == groups[1][1]


def test_relion_5(test_data, tmp_path: Path, sparse_stack) -> None:
    for name in ("toy_images_a.mrcs", "toy_images_b.mrcs"):
        sparse_stack(tmp_path / name, 1000, 448)
    particles = io.read_particles(test_data("formats") / "cryodrgn_small" / "relion5.star", tmp_path)
    assert (len(particles), particles.optics[0].voltage_kV, particles.pixel_size_A) == (17, 100.0, 0.89)
    assert len(particles.optics[0].odd_zernike) == 6
