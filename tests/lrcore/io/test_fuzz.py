"""Generated damage to every kind of input file: it is read, or one line says what is wrong; nothing else is opened.

In a test run each reader is tried some dozens of times; LRW_FUZZ=N tries each N times, and
LRW_FUZZ_SECONDS=S each for S seconds, with new examples.
"""

import bz2
import gzip
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrcore import io
from lrcore.errors import InputError
from lrcore.io import convert, cs_particles, cs_table, job_folders, optics_groups, star_table, star_text
from lrwidgets.cli._main import main
from tests.fuzzing import fuzz_examples
from tests.lrcore.io.conftest import Maker

WORDS = [
    "",
    "nan",
    "-1",
    "0",
    "1.5",
    "1e999",
    "2147483648",
    "é",
    "data_x",
    "loop_",
    "_rlnImageName",
    "#",
    '"',
    "'",
    "@",
]
NAMES = ["../../../../../../../../etc/passwd", "/etc/passwd", "/etc/passwd.mrcs", "a\0b", "x" * 5000, "~", ".", "/", ""]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Particles with their stack, as particles.star, particles.cs and .csg, and maps map.mrc, .gz, .bz2."""
    make = Maker(tmp_path_factory.mktemp("project"))
    make.stack()
    main(["convert", str(make.star()), str(make.folder / "particles.cs")])
    make.star("odd.star", optics=make.optics() | {"rlnImagePixelSize": [1.5, 1.6]})
    (make.folder / "chosen").mkdir()
    mrcfile.write(make.folder / "map.mrc", np.ones((12, 12, 12), np.float32), voxel_size=1.5)
    plain = (make.folder / "map.mrc").read_bytes()
    (make.folder / "map.mrc.gz").write_bytes(gzip.compress(plain))
    (make.folder / "map.mrc.bz2").write_bytes(bz2.compress(plain))
    return make


def sound(*readers: Callable[[Path], object], path: Path) -> None:
    """Each reader reads the file or says in one line that names it why not."""
    for reader in readers:
        said = complaint(reader, path)
        assert said is None or (path.stem in said and len(said.splitlines()) == 1), said


def complaint(reader: Callable[[Path], object], path: Path) -> str | None:
    """What the reader says of the file if it refuses it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            reader(path)
    except InputError as error:
        return str(error)
    return None


def every_image(path: Path) -> None:
    particles = io.read_particles(path)
    with io.StackReader(particles.images, particles.box) as reader:
        reader.read(np.arange(len(particles)))


def to_cryosparc(path: Path) -> None:
    convert.star_to_cs(star_table.read_source(path))


def to_star(path: Path) -> None:
    blocks = convert.cs_to_star(cs_table.read_source(path))
    star_text.write_blocks(path.with_suffix(".out"), blocks)


@st.composite
def damaged_text(draw: st.DrawFn, text: str) -> bytes:
    """Lines left out, doubled, exchanged, words replaced, and then bytes cut, replaced or put in."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        kind = draw(st.sampled_from(["drop", "double", "exchange", "word"]))
        if kind == "drop":
            lines[at] = ""
        elif kind == "double":
            lines.insert(other, lines[at])
        elif kind == "exchange":
            lines[at], lines[other] = lines[other], lines[at]
        elif words := lines[at].split(" "):
            words[draw(st.integers(0, len(words) - 1))] = draw(
                st.sampled_from(WORDS + NAMES + ["1@" + n for n in NAMES])
            )
            lines[at] = " ".join(words)
    return draw(damaged_bytes("\n".join(lines).encode()))


@st.composite
def damaged_bytes(draw: st.DrawFn, raw: bytes, head: int | None = None) -> bytes:
    """A few bytes replaced within the first `head`, or cut off at the end, or others put behind."""
    out = bytearray(raw)
    for _ in range(draw(st.integers(0, 3))):
        size = len(out) if head is None else min(head, len(out))
        at = draw(st.integers(0, max(size - 1, 0)))
        out[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    if draw(st.booleans()) and draw(st.booleans()):
        del out[draw(st.integers(0, len(out))) :]
    return bytes(out) + draw(st.sampled_from([b"", b"", b"\0" * 9, b"\xff"]))


@fuzz_examples(60)
@given(data=st.data())
def test_star(made: Maker, data: st.DataObject) -> None:
    path = made.folder / "fuzzed.star"
    path.write_bytes(data.draw(damaged_text((made.folder / "particles.star").read_text())))
    sound(io.read_particles, to_cryosparc, io.describe_file, path=path)


@pytest.mark.parametrize(
    ("was", "huge"), [(" 300 2.7", " 3e44 2.7"), (" 0.309069 ", " 1e300 "), (" 18305.06 ", " 1e99 ")]
)
def test_a_number_that_a_table_of_cryosparc_cannot_hold_is_told(made: Maker, was: str, huge: str) -> None:
    text = (made.folder / "particles.star").read_text()
    assert was in text
    path = made.folder / "fuzzed.star"
    path.write_text(text.replace(was, huge, 1))
    said = complaint(to_cryosparc, path)
    assert said is not None
    assert "does not fit float32" in said
    assert path.stem in said


@pytest.mark.parametrize("field", ["alignments3D/split", "blob/idx", "ctf/exp_group_id"])
def test_a_number_of_a_table_that_is_no_whole_number_is_told(made: Maker, field: str) -> None:
    table = np.load(made.folder / "particles.cs")
    kinds = [(name, "<f4" if name == field else table.dtype[name]) for name in table.dtype.names]
    changed = table.astype(kinds)
    changed[field][3] = np.nan
    path = made.folder / "fuzzed.cs"
    np.save(path.open("wb"), changed)
    said = complaint(to_star, path)
    assert said is not None
    assert f"{field}" in said
    assert path.stem in said


@pytest.mark.parametrize("char", ["\x1c", "\x1b[31m", "\x85", "\u2028", "\r", "\x07"])
def test_what_a_file_holds_does_not_steer_the_terminal(made: Maker, char: str) -> None:
    path = made.folder / "fuzzed.star"
    path.write_text((made.folder / "particles.star").read_text().replace(" 0070 1 ", f" 0070 {char}1 ", 1), newline="")
    said = complaint(io.read_particles, path)
    if char == "\r":
        assert said is None, "a blank, for STAR"
        return
    assert said is not None
    assert said.isprintable()
    assert said.startswith(str(path))
    assert char.encode("unicode_escape").decode() in said


@st.composite
def damaged_table(draw: st.DrawFn, table: np.ndarray) -> np.ndarray:
    """Fields left out, of another type or shape, or with values that make no sense."""
    fields = {name: table[name] for name in table.dtype.names}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(fields)))
        column, kind = fields[name], draw(st.sampled_from(["drop", "type", "shape", "value", "text", "other"]))
        if kind == "drop" and len(fields) > 1:
            del fields[name]
        elif kind == "type" and column.dtype.kind in "fiu":
            with np.errstate(all="ignore"):
                fields[name] = column.astype(
                    draw(st.sampled_from(["i1", "u8", "f2", "f8", "S8", "U4", "?", "c8", ">f4"]))
                )
        elif kind == "shape":
            fields[name] = np.stack([column] * draw(st.integers(1, 3)), axis=draw(st.sampled_from([1, -1])))
        elif kind == "value" and column.dtype.kind in "fiu":
            fields[name] = column.copy()
            with np.errstate(all="ignore"):
                value = np.array(draw(st.sampled_from([np.nan, np.inf, -1e30, 0.0, 1e9]))).astype(column.dtype)
            fields[name][draw(st.integers(0, len(column) - 1))] = value
        elif kind == "text":
            values = [draw(st.sampled_from([b"\xff\xfe", b"../x", b"/etc/passwd", b"[1,x]", b"", b">", b"a\0b"]))]
            fields[name] = np.array(values * len(column))
        else:
            fields[draw(st.sampled_from(["uid", "blob", "a/b/c", "/", "x\n"]))] = column
    out = np.zeros(len(table), [(name, column.dtype, column.shape[1:]) for name, column in fields.items()])
    for name, column in fields.items():
        out[name] = column
    return out


@fuzz_examples(60)
@given(data=st.data())
def test_cryosparc_tables(made: Maker, data: st.DataObject) -> None:
    path = made.folder / "fuzzed.cs"
    with path.open("wb") as file:
        np.save(file, data.draw(damaged_table(np.load(made.folder / "particles.cs"))), allow_pickle=False)
    sound(io.read_particles, to_star, io.describe_file, cs_particles.read_half_maps, path=path)


@fuzz_examples(60)
@given(data=st.data())
def test_cryosparc_bytes(made: Maker, data: st.DataObject) -> None:
    path = made.folder / "fuzzed.cs"
    path.write_bytes(data.draw(damaged_bytes((made.folder / "particles.cs").read_bytes(), 1500)))
    sound(io.read_particles, to_star, io.describe_file, path=path)


@fuzz_examples(60)
@given(data=st.data())
def test_cryosparc_groups(made: Maker, data: st.DataObject) -> None:
    path = made.folder / "fuzzed.csg"
    path.write_bytes(data.draw(damaged_text((made.folder / "particles.csg").read_text())))
    sound(io.read_particles, io.describe_file, cs_particles.read_half_maps, path=path)


KINDS = ["i1", "<i8", ">u8", "f2", "f8", "S8", "S32", "U4", "U40", "?", ">f4", "<u2"]


@st.composite
def retyped_table(draw: st.DrawFn, table: np.ndarray) -> np.ndarray:
    """Fields in types that scripts save, in a different order, with an axis more, or with a value that is none."""
    kinds = {name: (table.dtype[name].base.str, table.dtype[name].shape) for name in table.dtype.names}
    for name in draw(st.lists(st.sampled_from(sorted(kinds)), max_size=4)):
        shape = kinds[name][1]
        kinds[name] = (draw(st.sampled_from(KINDS)), draw(st.sampled_from([shape, shape, (*shape, 1), (1, *shape)])))
    out = np.zeros(len(table), [(name, *kinds[name]) for name in draw(st.permutations(sorted(kinds)))])
    with np.errstate(all="ignore"):
        for name in table.dtype.names:
            column = table[name].reshape(out[name].shape)
            try:
                out[name] = column
            except ValueError:  # text that is no number
                out[name] = 0
    name = draw(st.sampled_from(sorted(kinds)))
    value = draw(
        st.sampled_from(["1.000000", "1e400", "-1", "nan", "\udce9", "0x10", "18446744073709551615", "", "1_0"])
    )
    if out[name].dtype.kind in "SU" and draw(st.booleans()):
        out[name][draw(st.integers(0, len(out) - 1))] = (
            value.encode(errors="replace") if out[name].dtype.kind == "S" else value
        )
    return out


@fuzz_examples(60)
@given(data=st.data())
def test_cryosparc_types(made: Maker, data: st.DataObject) -> None:
    path = made.folder / "fuzzed.cs"
    with path.open("wb") as file:
        np.save(file, data.draw(retyped_table(np.load(made.folder / "particles.cs"))), allow_pickle=False)
    sound(io.read_particles, to_star, io.describe_file, select_first_group, path=path)


def select_first_group(path: Path) -> None:
    optics_groups.write_optics_groups(
        path, path.parent / "chosen" / "out.star", optics_groups.GroupChoice(["0", "first"])
    )


@fuzz_examples(60)
@given(data=st.data())
def test_cryosparc_jobs(made: Maker, data: st.DataObject) -> None:
    """Several outputs and passthrough files, with any slots and rows, of which some are damaged."""
    table = np.load(made.folder / "particles.cs")
    folder = made.folder / "J90"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    slots = sorted({name.partition("/")[0] for name in table.dtype.names} - {"uid"})
    names = [f"J90_{name}" for name in ("particles", "passthrough_particles", "003_particles", "passthrough_excluded")]
    names += ["particles_excluded", "passthrough_x", "J91_particles"]
    files = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    for name in files:
        chosen = data.draw(st.sets(st.sampled_from(slots)))
        part = table[["uid", *(field for field in table.dtype.names if field.partition("/")[0] in chosen)]]
        first, step = data.draw(st.integers(0, 20)), data.draw(st.sampled_from([1, -1, 2]))
        with (folder / f"{name}.cs").open("wb") as file:
            np.save(file, part[first::step].copy() if data.draw(st.booleans()) else part.copy())
        if data.draw(st.integers(0, 4)) == 0:
            (folder / f"{name}.cs").write_bytes(data.draw(damaged_bytes((folder / f"{name}.cs").read_bytes(), 400)))
    readers: list[Callable[[Path], object]] = [io.read_particles, io.describe_file]
    said = [complaint(reader, folder / f"{name}.cs") for name in files for reader in readers]
    said.append(complaint(lambda path: io.read_particles(job_folders.find_job_files(path).particles), folder))
    assert all(one is None or (str(folder) in one and len(one.splitlines()) == 1) for one in said)


@fuzz_examples(60)
@given(data=st.data())
def test_star_encodings_and_forms(made: Maker, data: st.DataObject) -> None:
    """Other encodings and forms of numbers, columns of tomography, and columns that are missing."""
    text = (made.folder / data.draw(st.sampled_from(["particles.star", "odd.star"]))).read_text()
    swap = st.sampled_from(
        [("\n", "\r\n"), ("\n", "\r"), (" 1 ", " 1.000000 "), (" 0070 ", " é "), ("_rlnOriginXAngst", "_x"),
         ("_rlnOriginYAngst", "_y"), ("_rlnPhaseShift", "_rlnTomoName"), ("_rlnImageName", "_rlnImage"),
         ("_rlnPhaseShift", "_rlnCoordinateZ"), ("@stacks/", "@../é/stacks/"), ("@", ""), (" 16 2", " 16.0 3"),
         (" 1.5 ", " 1.509 "), (" 1.5 ", " 1.5000001 ")]
    )  # fmt: skip
    for old, new in data.draw(st.lists(swap, max_size=3)):
        text = text.replace(old, new, data.draw(st.sampled_from([1, -1])))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-be", "utf-32", "cp437"]))
    path = made.folder / "fuzzed.star"
    path.write_bytes(data.draw(damaged_bytes(text.encode(encoding, errors="replace"))))
    images = data.draw(st.sampled_from([None, made.folder, made.folder / "stacks"]))
    sound(lambda path: io.read_particles(path, images), to_cryosparc, io.describe_file, select_first_group, path=path)


@fuzz_examples(60)
@given(data=st.data())
def test_files_of_any_type(made: Maker, data: st.DataObject) -> None:
    """The content of one type under the name of another, or of none."""
    source = data.draw(st.sampled_from(["particles.star", "particles.cs", "particles.csg", "map.mrc", "map.mrc.gz"]))
    raw = (made.folder / source).read_bytes()[: data.draw(st.sampled_from([None, None, 0, 1, 7, 900, 1100]))]
    raw = data.draw(st.sampled_from([b"", b"", b"\x95CSDAT", b"\xef\xbb\xbf", b"\n"])) + raw
    suffix = data.draw(
        st.sampled_from(["", ".txt", ".star", ".cs", ".csg", ".mrc", ".npy", ".star.gz", ".mrc.gz", ".gz"])
    )
    path = made.folder / f"fuzzed{suffix}"
    path.write_bytes(data.draw(damaged_bytes(raw, 300)))
    sound(io.read_particles, io.describe_file, select_first_group, path=path)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
@fuzz_examples(50)
@given(data=st.data())
def test_maps(made: Maker, suffix: str, data: st.DataObject) -> None:
    path = made.folder / f"fuzzed.mrc{suffix}"
    raw = (made.folder / f"map.mrc{suffix}").read_bytes()
    path.write_bytes(data.draw(damaged_bytes(raw, 240)))
    sound(io.read_volume, io.describe_file, path=path)


@fuzz_examples(50)
@given(data=st.data())
def test_stacks(made: Maker, data: st.DataObject) -> None:
    folder = made.folder / "stacks"
    whole = (folder / "particles.mrcs").read_bytes()
    (folder / "fuzzed.mrcs").write_bytes(data.draw(damaged_bytes(whole, 240)))
    path = made.star("fuzzed.star", rlnImageName=[f"{i + 1}@stacks/fuzzed.mrcs" for i in range(made.count)])
    sound(every_image, path=path)


# What was found, or might have been.


def refused(pattern: str, read: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("climbs", [True, False])
def test_a_name_leads_out_of_the_project_only_with_images(make, tmp_path: Path, climbs: bool) -> None:
    project = tmp_path / "1" / "2" / "3" / "4" / "5"
    outside = make.stack("outside/particles.mrcs")
    name = "../../../../../outside/particles.mrcs" if climbs else str(outside)
    table = make.star("1/2/3/4/5/p.star", rlnImageName=[f"{i + 1}@{name}" for i in range(make.count)])
    refused(r"p\.star: row 1: stack .*outside.* is outside .*--images DIR", lambda: io.read_particles(table))
    assert io.read_particles(table, outside.parent).images.stacks[0].samefile(outside)
    if not climbs:
        assert io.read_particles(table, tmp_path).images.stacks[0].samefile(outside)
    # The same within the project, and through a link of the project's own.
    near = make.stack("1/2/3/4/near/particles.mrcs")
    inside = "../near/particles.mrcs" if climbs else str(near)
    table = make.star("1/2/3/4/5/p.star", rlnImageName=[f"{i + 1}@{inside}" for i in range(make.count)])
    assert io.read_particles(table).images.stacks[0].samefile(near)
    (project / "linked").symlink_to(outside.parent)
    table = make.star("1/2/3/4/5/p.star", rlnImageName=[f"{i + 1}@linked/particles.mrcs" for i in range(make.count)])
    assert io.read_particles(table).images.stacks[0].samefile(outside)
    climbing = [f"{i + 1}@linked/../outside/particles.mrcs" for i in range(make.count)]
    refused("is outside", lambda: io.read_particles(make.star("1/2/3/4/5/p.star", rlnImageName=climbing)))


def test_a_name_that_climbs_leads_to_stacks_alone(make) -> None:
    make.stack("a/secret.txt")
    table = make.star("b/p.star", rlnImageName=[f"{i + 1}@../a/secret.txt" for i in range(make.count)])
    refused(r"secret\.txt does not exist", lambda: io.read_particles(table))


def test_a_group_names_no_table_outside_its_project(made: Maker, tmp_path: Path) -> None:
    text = (made.folder / "particles.csg").read_text()
    path = tmp_path / "1" / "2" / "3" / "4" / "5" / "a.csg"
    path.parent.mkdir(parents=True)
    path.write_text(text.replace(">particles.cs", f"{made.folder}/particles.cs"))
    refused(
        r"a\.csg: results/\w+: .*particles\.cs is outside the project folder: copy it", lambda: io.read_particles(path)
    )


def test_a_group_that_names_what_no_system_has(made: Maker) -> None:
    """`1@..` is no folder, so that nothing can be said of what the name leads to."""
    path = made.folder / "b.csg"
    text = (made.folder / "particles.csg").read_text()
    path.write_text(text.replace(">particles.cs", "1@../../../../../../../../etc/passwd"))
    refused(r"b\.csg: results/\w+: 1@.*passwd is outside the project folder: copy it", lambda: io.read_particles(path))


def test_python_objects_are_never_loaded(made: Maker, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "went off"),))

    table = np.zeros(2, [("uid", "u8"), ("x", "O")])
    table["x"] = Bomb()
    with (tmp_path / "a.cs").open("wb") as file:
        np.save(file, table, allow_pickle=True)
    refused(r"a\.cs: contains pickled Python objects, which are never", lambda: io.read_particles(tmp_path / "a.cs"))
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_a_compressed_map_is_unpacked_no_further_than_its_header_says(tmp_path: Path, suffix: str) -> None:
    """300 MB of zeros behind a map of 12³ voxels: a few kilobytes on disk, read in no time."""
    mrcfile.write(tmp_path / "a.mrc", np.ones((12, 12, 12), np.float32), voxel_size=1.0)
    pack = {".gz": gzip.open, ".bz2": bz2.open}[suffix]
    path = tmp_path / f"a.mrc{suffix}"
    with pack(path, "wb", 1) as file:
        file.write((tmp_path / "a.mrc").read_bytes())
        for _ in range(20):
            file.write(bytes(15_000_000))
    before = peak_MB()
    assert io.read_volume(path).data.sum() == 12**3
    assert peak_MB() - before < 100


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    mrcfile.write(tmp_path / "a.mrc", np.ones((12, 12, 12), np.float32), voxel_size=1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[:12] = np.full(3, 100_000, "<i4").tobytes()
    (tmp_path / "a.mrc").write_bytes(raw)
    (tmp_path / "b.mrc.gz").write_bytes(gzip.compress(bytes(raw)))
    refused(r"a\.mrc: is truncated: 6912 of 4\d+ bytes", lambda: io.read_volume(tmp_path / "a.mrc"))
    refused(r"b\.mrc\.gz: the map has 3725290 GB", lambda: io.read_volume(tmp_path / "b.mrc.gz"))


def peak_MB() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("column", ["rlnRandomSubset", "rlnOpticsGroup"])
def test_a_fraction_is_no_whole_number(make, column: str) -> None:
    values = list(make.columns()[column])
    values[6] = 1.5
    path = make.star(**{column: values})
    refused(rf"row 7: .*({column} is '1\.5', not a whole number|not in data_optics)", lambda: to_cryosparc(path))


def test_text_that_is_not_utf8_is_refused(made: Maker, tmp_path: Path) -> None:
    table = np.load(made.folder / "particles.cs")
    table["blob/path"][3] = b"stacks/\xff.mrcs"
    np.save((tmp_path / "a.cs").open("wb"), table)
    refused(r"a\.cs: blob/path is text that is not UTF-8", lambda: io.read_particles(tmp_path / "a.cs"))
