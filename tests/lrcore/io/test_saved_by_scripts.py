"""CryoSPARC tables with long headers, of jobs with several outputs, and as scripts save them: read, never rounded."""

from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.io import convert, cs_table, job_folders, star_table
from lrcore.io.cs_table import with_columns
from lrcore.records import Particles
from lrwidgets.cli._main import main

CLASS_FIELDS = ("split", "shift", "pose", "psize_A", "class_posterior")


@pytest.fixture
def whole(make) -> np.ndarray:
    """A table with the slots blob, ctf and alignments3D of 24 particles whose stack exists."""
    make.stack()
    particles = io.read_particles(make.star())
    io.write_particles(make.folder / "whole.cs", particles, particles.poses)
    table = np.load(make.folder / "whole.cs")
    for suffix in (".cs", ".csg"):
        (make.folder / f"whole{suffix}").unlink()
    return table


def save(path: Path, table: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, table)
    return path


def slots(table: np.ndarray, *names: str) -> np.ndarray:
    """The uid and the fields of some slots."""
    return table[["uid", *(field for field in table.dtype.names if field.partition("/")[0] in names)]].copy()


def retyped(table: np.ndarray, **kinds: str) -> np.ndarray:
    """The table with fields in other types; `__` stands for a slash."""
    wanted = {name.replace("__", "/"): kind for name, kind in kinds.items()}
    return table.astype([(n, wanted.get(n, table.dtype[n].base.str), table.dtype[n].shape) for n in table.dtype.names])


def refused(pattern: str, path: Path) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        io.read_particles(path)
    assert "\n" not in str(caught.value)


def same_particles(path: Path, table: np.ndarray) -> Particles:
    """Read a file and check that its particles are those of the table, in the order of the file."""
    particles = io.read_particles(path)
    rows = cs_table.find_rows(table["uid"], particles.uid)
    assert (rows >= 0).all()
    np.testing.assert_array_equal(particles.half, table["alignments3D/split"][rows] + 1)
    np.testing.assert_array_equal(particles.images.index, table["blob/idx"][rows])
    np.testing.assert_allclose(particles.defocus_A[:, 0], table["ctf/df1_A"][rows], rtol=1e-6)
    return particles


# Long headers


def test_a_header_of_a_hundred_classes_is_read_from_file_group_and_folder(make, whole: np.ndarray) -> None:
    """NumPy itself refuses headers above 10 kB."""
    save(make.folder / "J130/J130_003_particles.cs", slots(whole, "alignments3D"))
    classes = {
        f"alignments_class_{number}/{name}": whole["alignments3D/psize_A"]
        for number in range(100)
        for name in CLASS_FIELDS
    }
    passthrough = save(
        make.folder / "J130/J130_passthrough_particles.cs", with_columns(slots(whole, "blob", "ctf"), classes)
    )
    with pytest.raises(ValueError, match="max_header_size"):
        np.load(passthrough)
    particles = same_particles(make.folder / "J130/J130_003_particles.cs", whole)
    assert job_folders.find_job_files(make.folder / "J130").particles.name == "J130_003_particles.cs"
    io.write_particles(make.folder / "out.cs", particles, particles.poses)
    assert set(classes) <= set(cs_table.field_names(make.folder / "out.cs")), "an export loses no field"
    same_particles(make.folder / "out.csg", whole)


@pytest.mark.parametrize("depth", [150, 50_000])
@pytest.mark.parametrize("text", ["(", "-", "[", "1+"])
def test_a_header_made_to_exhaust_the_parser_is_refused(tmp_path: Path, text: str, depth: int) -> None:
    header = (text * depth + "1\n").encode()
    path = tmp_path / "a.cs"
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
    refused(r"a\.cs: is truncated or damaged", path)


# Passthrough files of several outputs


def test_every_output_is_joined_with_its_own_passthrough_file(make, whole: np.ndarray) -> None:
    for number in range(3):
        part = whole[number::3]
        save(make.folder / f"J90/J90_particles_cluster_{number}.cs", slots(part, "alignments3D"))
        save(make.folder / f"J90/J90_passthrough_particles_cluster_{number}.cs", slots(part, "blob", "ctf")[::-1])
    for number in range(3):
        path = make.folder / f"J90/J90_particles_cluster_{number}.cs"
        assert len(same_particles(path, whole)) == 8
        assert [file.name for file in cs_table.read_source(path).files][1:] == [
            f"J90_passthrough_particles_cluster_{number}.cs"
        ]


def test_a_file_without_a_name_of_its_own_is_joined_by_uid(make, whole: np.ndarray) -> None:
    """As in a heterogeneous refinement; and passthrough files that are not called particles."""
    for number in range(2):
        save(make.folder / f"J12/J12_class_0{number}_00042_particles.cs", slots(whole[number::2], "alignments3D"))
    save(make.folder / "J12/J12_passthrough_particles_class_0.cs", slots(whole[::2], "blob", "ctf"))
    save(make.folder / "J12/J12_passthrough_particles_class_1.cs", slots(whole[1::2], "blob", "ctf"))
    for number in range(2):
        same_particles(make.folder / f"J12/J12_class_0{number}_00042_particles.cs", whole)
    save(make.folder / "J110/split_0.cs", slots(whole[:9], "alignments3D"))
    save(make.folder / "J110/J110_passthrough_split_0.cs", slots(whole[:9], "blob", "ctf"))
    save(make.folder / "J110/J110_passthrough_a.cs", slots(whole[9:], "blob", "ctf"))
    assert len(same_particles(make.folder / "J110/split_0.cs", whole)) == 9


def test_several_passthrough_files_give_different_slots(make, whole: np.ndarray) -> None:
    save(make.folder / "J5/J5_particles.cs", slots(whole, "alignments3D"))
    save(make.folder / "J5/J5_passthrough_particles.cs", slots(whole, "blob"))
    save(make.folder / "J5/J5_passthrough_particles_ctf.cs", slots(whole, "ctf"))
    same_particles(make.folder / "J5/J5_particles.cs", whole)


def test_poses_in_a_passthrough_file_alone_are_found_in_the_job_folder(make, whole: np.ndarray) -> None:
    """As in Select 2D of particles with 3D poses; the excluded particles are not its result."""
    for name, part in (("selected", whole[:20]), ("excluded", whole[20:])):
        save(make.folder / f"J60/particles_{name}.cs", slots(part, "blob"))
        save(make.folder / f"J60/J60_passthrough_particles_{name}.cs", slots(part, "ctf", "alignments3D"))
    assert len(same_particles(make.folder / "J60/particles_excluded.cs", whole)) == 4
    found = job_folders.find_job_files(make.folder / "J60")
    assert found.particles.name == "particles_selected.cs"
    assert len(same_particles(found.particles, whole)) == 20


def test_two_outputs_that_the_name_does_not_rank_are_refused(make, whole: np.ndarray) -> None:
    for number in range(2):
        save(make.folder / f"J90/J90_particles_cluster_{number}.cs", slots(whole[number::2], "blob"))
        save(
            make.folder / f"J90/J90_passthrough_particles_cluster_{number}.cs",
            slots(whole[number::2], "ctf", "alignments3D"),
        )
    with pytest.raises(InputError, match=r"several particle files .*cluster_0\.cs, .*cluster_1\.cs"):
        job_folders.find_job_files(make.folder / "J90")


def test_a_passthrough_file_that_lacks_particles_is_named(make, whole: np.ndarray) -> None:
    path = save(make.folder / "J5/J5_particles.cs", slots(whole, "alignments3D"))
    own = save(make.folder / "J5/J5_passthrough_particles.cs", slots(whole[:20], "blob", "ctf"))
    refused(rf"{path}: 4 of 24 particles \(first: uid \d+\) are not in {own}: give the files of one job", path)
    own.rename(own.with_name("J5_passthrough_particles_other.cs"))
    refused(r"4 of 24 particles .* are not in .*_other\.cs", path)


def test_files_of_other_outputs_do_not_stand_in_the_way(make, whole: np.ndarray) -> None:
    """Without particles of this output, without any particles, or damaged and not needed."""
    path = save(make.folder / "J5/J5_particles_a.cs", slots(whole[:20], "alignments3D"))
    save(make.folder / "J5/J5_passthrough_particles_b.cs", slots(whole[20:], "blob", "ctf"))
    refused(r"no field blob/path, .*and no passthrough file in its folder has slot blob", path)
    save(make.folder / "J5/J5_passthrough_particles_a.cs", slots(whole[:20], "blob", "ctf"))
    save(make.folder / "J5/J5_particles_excluded.cs", slots(whole[:0], "alignments2D"))
    save(make.folder / "J5/J5_passthrough_particles_excluded.cs", slots(whole[:0], "blob", "ctf", "location"))
    (make.folder / "J5/J5_passthrough_particles_c.cs").write_bytes(b"damaged")
    assert len(same_particles(path, whole)) == 20
    with pytest.warns(UserWarning, match=r"skipped: .*_c\.cs: is not a CryoSPARC \.cs file"):
        assert job_folders.find_job_files(make.folder / "J5").particles == path


# Types that scripts save

RETYPED = {
    "uid int64": {"uid": "<i8"},
    "uid text": {"uid": "S20"},
    "big-endian": {"uid": ">u8", "ctf__df1_A": ">f8", "blob__idx": ">u4"},
    "wider": {"blob__idx": "<i8", "blob__shape": "<i8", "alignments3D__split": "<i8", "ctf__exp_group_id": "<u8"},
    "float64": {"ctf__df1_A": "<f8", "alignments3D__pose": "<f8", "blob__psize_A": "<f8", "ctf__accel_kv": "<f8"},
    "integers as floats": {"blob__idx": "<f8", "blob__shape": "<f8", "alignments3D__split": "<f8"},
    "integers for floats": {"ctf__accel_kv": "<i8", "ctf__bfactor": "<i4", "blob__sign": "<i1"},
    "truth values": {"alignments3D__split": "?"},
    "Unicode": {"blob__path": "<U60", "ctf__type": "<U9"},
    "text": {"blob__idx": "S9", "ctf__df1_A": "S32", "alignments3D__split": "<U3", "blob__shape": "S4"},
}  # fmt: skip


@pytest.mark.parametrize("name", RETYPED)
def test_fields_in_other_types_are_read_and_exported_in_those_of_cryosparc(make, whole: np.ndarray, name: str) -> None:
    table = whole.copy()
    table["uid"][:2] = np.uint64(2**63 + 5), np.uint64(2**64 - 1)
    path = save(make.folder / "J7.cs", retyped(table, **RETYPED[name]))
    particles = same_particles(path, table)
    np.testing.assert_array_equal(particles.uid, table["uid"])
    io.write_particles(make.folder / "out.cs", particles, particles.poses)
    out = np.load(make.folder / "out.cs")
    for field in RETYPED[name]:
        kind = {"u": "iu", "i": "iu"}.get(whole.dtype[field.replace("__", "/")].base.kind, "")
        assert kind == "" or out.dtype[field.replace("__", "/")].base.kind in kind
    np.testing.assert_array_equal(out["uid"], table["uid"])
    for command in (["info", str(path)], ["convert", str(path), str(make.folder / "out.star")]):
        assert main(command) == 0
    back = convert.star_to_cs(star_table.read_source(make.folder / "out.star"))
    np.testing.assert_array_equal(back["uid"], table["uid"])


def test_an_axis_of_length_one_more_is_dropped(make, whole: np.ndarray) -> None:
    kinds = [(n, whole.dtype[n].base.str, whole.dtype[n].shape or (1,)) for n in whole.dtype.names if n != "uid"]
    table = np.zeros(len(whole), [("uid", "<u8"), *kinds])
    for name in whole.dtype.names:
        table[name] = whole[name].reshape(table[name].shape)
    same_particles(save(make.folder / "J7.cs", table), whole)


def test_what_another_type_has_rounded_is_refused(make, whole: np.ndarray) -> None:
    whole["uid"] += np.uint64(2**60)
    refused(r"J7\.cs: uid has type float64, which rounds", save(make.folder / "J7.cs", retyped(whole, uid="<f8")))
    small = whole.copy()
    small["uid"] = np.arange(24) + 7
    same_particles(save(make.folder / "J7.cs", retyped(small, uid="<f8")), small)


@pytest.mark.parametrize(
    ("field", "kind", "value", "pattern"),
    [
        ("uid", "<f8", 0.5, r"row 3: uid is 0\.5, not a whole number"),
        ("uid", "S9", b"x", r"row 3: uid is 'x', not a number"),
        ("uid", "<c16", 1, r"uid has type complex128: save it as uint64"),
        ("blob/idx", "<f4", 1.5, r"row 3: blob/idx is 1\.5, not a whole number"),
        ("blob/idx", "<f4", np.nan, r"row 3: blob/idx is nan, not a whole number"),
        ("blob/idx", "<f8", 1e300, r"row 3: blob/idx is 1e\+300, not a whole number"),
        ("ctf/df1_A", "S9", b"1,5", r"row 3: ctf/df1_A is '1,5', not a number"),
        ("ctf/df1_A", "S9", b"\xff", r"row 3: ctf/df1_A is '.', not a number"),
        ("alignments3D/pose", "<U9", "abc", r"row 3: alignments3D/pose is 'abc', not a number"),
        ("blob/path", "<U60", "a\udce9", r"blob/path is text that is not UTF-8"),
    ],
)
def test_a_value_that_is_none_is_named(
    make, whole: np.ndarray, field: str, kind: str, value: object, pattern: str
) -> None:
    if field == "uid":
        whole["uid"] = np.arange(24) + 7
    table = retyped(whole, **{field.replace("/", "__"): kind})
    table[field][2] = value
    refused(rf"J7\.cs: {pattern}", save(make.folder / "J7.cs", table))


@pytest.mark.parametrize("first", [b"\x94", b"\x95"])
@pytest.mark.parametrize("name", ["J7.cs", "J7"])
def test_the_compressed_format_is_called_by_its_name(tmp_path: Path, first: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(first + b"CSDAT" + bytes(64))
    refused(r"J7\S*: is in the compressed format .*CSDAT_FORMAT.*NUMPY_FORMAT", tmp_path / name)


def test_the_compressed_format_of_cryosparc_tools(make, whole: np.ndarray) -> None:
    dataset = pytest.importorskip("cryosparc.dataset")
    save(make.folder / "J7.cs", whole)
    dataset.Dataset.load(str(make.folder / "J7.cs")).save(str(make.folder / "J8.cs"), format=dataset.CSDAT_FORMAT)
    refused(r"J8\.cs: is in the compressed format", make.folder / "J8.cs")


def test_a_table_of_pandas_with_text_as_objects_is_refused_with_the_way_out(make, whole: np.ndarray) -> None:
    objects = whole.astype([(n, "O" if n == "blob/path" else whole.dtype[n]) for n in whole.dtype.names])
    with (make.folder / "J7.cs").open("wb") as file:
        np.save(file, objects, allow_pickle=True)
    refused(r"J7\.cs: contains pickled Python objects, .*save its text as bytes", make.folder / "J7.cs")
