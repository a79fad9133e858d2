"""Bad files: each gives one line that names the file, the field or row, and what to do; nothing is half-written."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml

from lrcore import io
from lrcore.errors import InputError
from lrcore.io import convert, cs_table
from lrcore.io.cs_table import with_columns
from lrcore.records import Volume


def _refused(pattern: str, do: Callable[[], object]) -> None:
    """`do()` raises InputError whose one line matches `pattern`."""
    with pytest.raises(InputError, match=pattern) as caught:
        do()
    assert "\n" not in str(caught.value)


def _with(make, column: str, row: int, value: object) -> dict[str, list[object]]:
    values = list(make.columns()[column])
    values[row - 1] = value
    return {column: values}


STAR_CHANGES = {
    "no angles": ({"without": ("rlnAngleTilt",)}, r"no column rlnAngleTilt: .*run a 3D refinement first"),
    "no origins": ({"without": ("rlnOriginYAngst",)}, r"no column rlnOriginYAngst: .*no 3D poses"),
    "no half sets": ({"without": ("rlnRandomSubset",)}, r"no column rlnRandomSubset: .*auto-refinement first"),
    "no defocus": ({"without": ("rlnDefocusU",)}, r"no column rlnDefocusU: .*no CTF"),
    "no voltage": ({"without": ("rlnVoltage",)}, r"no column rlnVoltage, needed for the CTF"),
    "no pixel size": ({"without": ("rlnImagePixelSize",)}, r"no column rlnImagePixelSize"),
    "no images": ({"without": ("rlnImageName",)}, r"no table has a column rlnImageName"),
    "no group column": ({"without": ("rlnOpticsGroup",)}, r"no column rlnOpticsGroup"),
}


@pytest.mark.parametrize("name", STAR_CHANGES)
def test_star_without_a_column(make, name: str) -> None:
    change, pattern = STAR_CHANGES[name]
    make.stack()
    path = make.star(**change)
    _refused(rf"^{path}: .*{pattern}", lambda: io.read_particles(path))


VALUES = {
    "text for a number": ("rlnDefocusU", "abc", r"row 4: rlnDefocusU is 'abc', not a finite number"),
    "NaN pose": ("rlnAngleRot", "nan", r"row 4: rlnAngleRot is 'nan'"),
    "infinite origin": ("rlnOriginXAngst", "inf", r"row 4: rlnOriginXAngst is 'inf'"),
    "unknown group": ("rlnOpticsGroup", 7, r"row 4: optics group 7 is not in data_optics"),
    "half set 3": ("rlnRandomSubset", 3, r"row 4: rlnRandomSubset is 3, must be 1 or 2"),
    "no slice": ("rlnImageName", "stacks/particles.mrcs", r"row 4: rlnImageName is 'stacks.*000001@stack"),
    "slice 0": ("rlnImageName", "0@stacks/particles.mrcs", r"row 4: rlnImageName is '0@"),
    "slice beyond": ("rlnImageName", "25@stacks/particles.mrcs", r"row 4: image 25 of .*mrcs, which has only 24"),
    "missing stack": ("rlnImageName", "1@stacks/b.mrcs", r"row 4: stack stacks/b.mrcs does not exist.*--images DIR"),
}


@pytest.mark.parametrize("name", VALUES)
def test_star_with_a_bad_value(make, name: str) -> None:
    column, value, pattern = VALUES[name]
    make.stack()
    path = make.star(**_with(make, column, 4, value))
    _refused(rf"^{path}: {pattern}", lambda: io.read_particles(path))


OPTICS = {
    "voltage 0": ("rlnVoltage", [300, 0], r"optics group second: voltage is 0 kV, must be above 0"),
    "pixel size 0": ("rlnImagePixelSize", [0, 0], r"optics group first: pixel size is 0 A"),
    "contrast 1": ("rlnAmplitudeContrast", [1, 0.1], r"optics group first: amplitude contrast is 1, must be"),
    "negative Cs": ("rlnSphericalAberration", [2.7, -1], r"optics group second: spherical aberration is -1 mm"),
    "two pixel sizes": (
        "rlnImagePixelSize",
        [1.5, 1.6],
        r"several pixel sizes in one file \(first: 1.5, second: 1.6\)",
    ),
    "two boxes": ("rlnImageSize", [16, 20], r"several boxes in one file \(first: 16, second: 20\)"),
    "a number twice": ("rlnOpticsGroup", [2, 2], r"data_optics lists optics group 2 twice"),
    "bad list": ("rlnOddZernike", ["[0.1,x]", "[]"], r"rlnOddZernike is '\[0.1,x\]': it must be a list"),
}


@pytest.mark.parametrize("name", OPTICS)
def test_star_with_impossible_optics(make, name: str) -> None:
    column, values, pattern = OPTICS[name]
    make.stack()
    path = make.star(optics=make.optics() | {column: values})
    _refused(rf"^{path}: {pattern}", lambda: io.read_particles(path))


ODD = {
    "volts": ("rlnVoltage", [300000, 200], r"first: voltage is 300000 kV, expected 60 to 400: check the value"),
    "Cs in A": (
        "rlnSphericalAberration",
        [2.7e7, 2.7e7],
        r"first \(and 1 more groups\): spherical aberration is 2.7e\+07",
    ),
    "contrast in %": (
        "rlnAmplitudeContrast",
        [0.1, 0.7],
        r"second: amplitude contrast is 0.7, expected 0 to 0.5",
    ),
    "pixels in nm": ("rlnImagePixelSize", [0.15, 0.15], r"first .*: pixel size is 0.15 A"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_constants_are_questioned(make, name: str) -> None:
    column, values, pattern = ODD[name]
    make.stack(voxel=values[0] if column == "rlnImagePixelSize" else make.pixel)
    with pytest.warns(UserWarning, match=rf"particles\.star: optics group .*{pattern}") as caught:
        io.read_particles(make.star(optics=make.optics() | {column: values}))
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("factor", "pattern"),
    [
        (1e-4, r"median defocus is 1\.\d+ A, almost in focus: defocus must be in A"),
        (-1.0, r"row 1: defocus -[\d.]+ A is overfocus \(24 of 24 particles\)"),
        (1e2, r"row 1: defocus [\de.+]+ A is implausible \(24 of 24 particles\)"),
    ],
)
def test_odd_defocus_is_questioned(make, factor: float, pattern: str) -> None:
    make.stack()
    columns = {name: [factor * value for value in make.columns()[name]] for name in ("rlnDefocusU", "rlnDefocusV")}
    with pytest.warns(UserWarning, match=pattern):
        io.read_particles(make.star(**columns))


def test_star_with_one_half_set(make) -> None:
    make.stack()
    _refused(
        r"rlnRandomSubset is 2 in every row", lambda: io.read_particles(make.star(rlnRandomSubset=[2] * make.count))
    )


def test_star_that_is_none(make) -> None:
    path = make.folder / "a.star"
    _refused(r"a\.star: cannot be read \(No such file", lambda: io.read_particles(path))
    path.write_text("hello\n")
    _refused(r"a\.star: is not a STAR file", lambda: io.read_particles(path))
    path.write_bytes(bytes(range(256)) * 8)
    _refused(r"a\.star: is not a STAR file", lambda: io.read_particles(path))
    path.write_text("data_particles\n\nloop_\n_rlnImageName #1\n_rlnAngleRot #2\n")
    _refused(r"a\.star: table data_particles has no rows", lambda: io.read_particles(path))
    path.write_text("data_particles\n\nloop_\n_rlnImageName #1\n_rlnAngleRot #2\n\n# the end\n")
    _refused(r"a\.star: table data_particles has no rows", lambda: io.read_particles(path))
    path.write_text("data_particles\n\n")
    _refused(r"a\.star: no table has a column rlnImageName", lambda: io.read_particles(path))
    make.stack()
    assert len(io.read_particles(make.star("a.star"))) == make.count  # a corrected file is read anew


@pytest.mark.parametrize("edit", [lambda row: row.rsplit(" ", 1)[0], lambda row: row + " more"])
def test_star_with_a_row_too_short_or_too_long(make, edit: Callable[[str], str]) -> None:
    make.stack()
    path = make.star()
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("000001@"))
    lines[first + 9] = edit(lines[first + 9])
    path.write_text("\n".join(lines) + "\n")
    _refused(r"row 10 of data_particles has 1[57] values instead of 16: check that", lambda: io.read_particles(path))


def test_images_folder_that_is_none(make) -> None:
    make.stack()
    _refused(
        r"--images .*nowhere: there is no such folder", lambda: io.read_particles(make.star(), make.folder / "nowhere")
    )


def test_stack_of_another_box(make) -> None:
    make.stack(box=20)
    _refused(
        r"particles\.mrcs: images are 20 x 20 px, but .*particles\.star has 16 px",
        lambda: io.read_particles(make.star()),
    )


def test_stack_that_is_short_or_no_stack(make) -> None:
    stack = make.stack()
    whole = stack.read_bytes()
    stack.write_bytes(whole[:-1])
    _refused(r"particles\.mrcs: is truncated: 25599 bytes instead of 25600", lambda: io.read_particles(make.star()))
    stack.write_bytes(whole[:700])
    _refused(r"particles\.mrcs: is not an MRC file: it ends within the header", lambda: io.read_particles(make.star()))
    stack.write_bytes(b"\xff" * 4096)
    _refused(r"particles\.mrcs: is not an MRC file: its header is invalid", lambda: io.read_particles(make.star()))
    mrcfile.write(stack, np.zeros((24, 16, 16), np.complex64), overwrite=True)
    _refused(r"particles\.mrcs: MRC mode 4 is not supported", lambda: io.read_particles(make.star()))


def test_compressed_stack(make) -> None:
    make.stack().rename(make.folder / "stacks" / "a.mrcs.gz")
    path = make.star(rlnImageName=[f"{i + 1}@stacks/a.mrcs.gz" for i in range(make.count)])
    _refused(r"a\.mrcs\.gz: is compressed.*decompress it", lambda: io.read_particles(path))


def test_stack_that_vanishes_or_shrinks_later(make) -> None:
    stack = make.stack()
    particles = io.read_particles(make.star())
    os.truncate(stack, 1024 + 5 * 16 * 16 * 4 + 10)
    with io.StackReader(particles.images, particles.box) as reader:
        assert reader.read([4]).shape == (1, 16, 16)
        _refused(r"particles\.mrcs: is truncated before image 6", lambda: reader.read([3, 4, 5, 6]))
    stack.unlink()
    _refused(r"particles\.mrcs: cannot be read \(No such file", lambda: reader.read([0]))


def test_image_with_nan(make) -> None:
    stack = make.stack()
    with mrcfile.open(stack, "r+") as file:
        file.data[6, 3, 3] = np.nan
    reader = io.StackReader(io.read_particles(make.star()).images, make.box)
    _refused(r"particles\.mrcs: image 7 has NaN", lambda: reader.read(range(make.count)))


def test_maps(tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    cube = np.ones((8, 8, 8), np.float32)
    _refused(r"map\.mrc: cannot be read \(No such file", lambda: io.read_volume(path))
    mrcfile.write(path, cube)
    _refused(r"map\.mrc: .*no voxel size.*--apix", lambda: io.read_volume(path))
    mrcfile.write(path, cube, voxel_size=(1, 1, 2), overwrite=True)
    _refused(r"map\.mrc: voxels of 1.0 x 1.0 x 2.0 A are not cubic", lambda: io.read_volume(path))
    mrcfile.write(path, cube[:, :, :6].copy(), voxel_size=1, overwrite=True)
    _refused(r"map\.mrc: is 6 x 8 x 8 voxels, but a map must be a cube", lambda: io.read_volume(path))
    mrcfile.write(path, cube, voxel_size=1, overwrite=True)
    with mrcfile.mmap(path, "r+") as file:
        file.data[1, 2, 3] = np.inf
    _refused(r"map\.mrc: 1 voxels are NaN or infinite", lambda: io.read_volume(path))
    path.write_bytes(path.read_bytes()[:-100])
    _refused(r"map\.mrc: is truncated: 1948 of 2048 bytes", lambda: io.read_volume(path))
    path.write_text("no map")
    _refused(r"map\.mrc: is not an MRC file", lambda: io.read_volume(path))
    (tmp_path / "map.mrc.gz").write_text("no gzip")
    _refused(r"map\.mrc\.gz: cannot be read \(Not a gzipped file", lambda: io.read_volume(tmp_path / "map.mrc.gz"))


def test_places_that_cannot_be_written(make) -> None:
    make.stack()
    particles = io.read_particles(make.star())
    volume = Volume(np.zeros((8, 8, 8), np.float32), 1.0)
    (make.folder / "file").write_text("")
    base = make.folder / "file"
    _refused(rf"{base}/a\.mrc: cannot be written", partial(io.write_volume, base / "a.mrc", volume))
    for name in ("a.star", "a.cs"):
        write = partial(io.write_particles, base / name, particles, particles.poses)
        _refused(rf"{base}/a\.(star|cs|csg): cannot be written", write)
    _refused(r"a\.txt: particles are written as", lambda: io.write_particles("a.txt", particles, particles.poses))


WRITE_TO_A_FULL_DISK = """
import resource, sys
import numpy as np
from lrcore import io
from lrcore.errors import InputError
from lrcore.records import Volume
particles = io.read_particles(sys.argv[1] + "/particles.star")
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
volume = Volume(np.zeros((32, 32, 32), np.float32), 1.0)
write = {
    "a.mrc": lambda path: io.write_volume(path, volume),
    "a.star": lambda path: io.write_particles(path, particles, particles.poses),
    "a.cs": lambda path: io.write_particles(path, particles, particles.poses),
}
for name, do in write.items():
    try:
        do(sys.argv[1] + "/" + name)
    except InputError as error:
        print(error)
"""


def test_a_full_disk_leaves_nothing_behind(make, root: Path) -> None:
    """A limit on the size of files makes writing fail half-way, as a full disk does."""
    make.stack()
    make.star()
    (make.folder / "a.star").write_text("what was there before")
    before = sorted(make.folder.iterdir())
    env = os.environ | {"PYTHONPATH": str(root / "core")}
    command = [sys.executable, "-c", WRITE_TO_A_FULL_DISK, str(make.folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("cannot be written (" in line for line in lines)
    assert sorted(make.folder.iterdir()) == before
    assert (make.folder / "a.star").read_text() == "what was there before"


@pytest.fixture
def job(make) -> Path:
    """A .cs with all slots, and its .csg."""
    make.stack()
    particles = io.read_particles(make.star())
    io.write_particles(make.folder / "J7.cs", particles, particles.poses)
    return make.folder / "J7.cs"


def _save(path: Path, table: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, table)


CS_DROPS = {
    "alignments3D/pose": r"no alignments3D/pose: .*run a 3D refinement first",
    "alignments3D/split": r"no alignments3D/split: .*no half sets",
    "blob/": r"no field blob/path.*passthrough",
    "ctf/df1_A": r"no field ctf/df1_A",
    "uid": r"is not a CryoSPARC \.cs file",
}


@pytest.mark.parametrize("prefix", CS_DROPS)
def test_cs_without_a_field(job: Path, prefix: str) -> None:
    table = np.load(job)
    names = [name for name in table.dtype.names if not name.startswith(prefix)]
    _save(job, table[names].copy())
    _refused(rf"^{job}: {CS_DROPS[prefix]}", lambda: io.read_particles(job))


CS_VALUES = {
    "alignments3D/pose": (np.nan, r"row 3 \(uid \d+\): alignments3D/pose is not a finite number"),
    "ctf/df2_A": (np.inf, r"row 3 \(uid \d+\): ctf/df2_A is not a finite number"),
    "ctf/accel_kv": (0, r"optics group exp_group_0.*: voltage is 0 kV"),
    "ctf/tilt_A": (1e9, r"ctf/tilt_A of 1e\+09 A is impossible"),
    "alignments3D/split": (5, r"alignments3D/split holds .*instead of 0 and 1"),
    "blob/psize_A": (9, r"several pixel sizes in one file"),
    "blob/shape": (99, r"several boxes in one file"),
    "blob/idx": (24, r"row 3: image 25 of .*which has only 24"),
}


@pytest.mark.parametrize("name", CS_VALUES)
def test_cs_with_a_bad_value(job: Path, name: str) -> None:
    value, pattern = CS_VALUES[name]
    table = np.load(job)
    column = table[name].copy()
    column[2] = value
    _save(job, with_columns(table, {name: column}))
    _refused(rf"^{job}: {pattern}", lambda: io.read_particles(job))


@pytest.mark.parametrize("name", ["alignments3D/pose", "alignments3D/shift", "alignments3D/psize_A"])
def test_cs_to_star_with_a_pose_that_is_none(job: Path, name: str) -> None:
    table = np.load(job)
    column = table[name].copy()
    column[2] = np.inf
    _save(job, with_columns(table, {name: column}))
    pattern = rf"^{job}: row 3 \(uid \d+\): {name} is not a finite number"
    _refused(pattern, lambda: convert.cs_to_star(cs_table.read_source(job)))


def test_cs_that_is_none(job: Path) -> None:
    table = np.load(job)
    _save(job, np.concatenate([table, table[:1]]))
    _refused(r"J7\.cs: some uid occur more than once", lambda: io.read_particles(job))
    _save(job, table[:0])
    _refused(r"J7\.cs: has no rows", lambda: io.read_particles(job))
    whole = job.read_bytes()
    job.write_bytes(whole[: len(whole) // 2])
    _refused(r"J7\.cs: is truncated or damaged", lambda: io.read_particles(job))
    job.write_text("no table")
    _refused(r"J7\.cs: is not a CryoSPARC \.cs file", lambda: io.read_particles(job))
    job.unlink()
    _refused(r"J7\.cs: cannot be read \(No such file", lambda: io.read_particles(job))


class Trap:
    """Unpickling it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_pickles_are_never_loaded(job: Path) -> None:
    mark = job.with_name("mark")
    np.save(job.open("wb"), np.array([Trap(mark)], dtype=object), allow_pickle=True)
    _refused(r"J7\.cs: contains pickled Python objects, which are never loaded", lambda: io.read_particles(job))
    assert not mark.exists()


def test_yaml_is_loaded_safely(job: Path) -> None:
    mark = job.with_name("mark")
    job.with_suffix(".csg").write_text(f"results: !!python/object/apply:os.system ['touch {mark}']\n")
    _refused(r"J7\.csg: is not a \.csg file \(not YAML\)", lambda: io.read_particles(job.with_suffix(".csg")))
    assert not mark.exists()


def test_csg_with_a_file_or_slot_missing(job: Path) -> None:
    path = job.with_suffix(".csg")
    whole = yaml.safe_load(path.read_text())

    def write(slot: str, **entry: object) -> None:
        path.write_text(yaml.safe_dump(whole | {"results": whole["results"] | {slot: entry}}))

    write("blob", metafile=">gone.cs", num_items=24, type="particle.blob")
    _refused(r"J7\.csg: metafile does not exist: gone\.cs \(slot blob\)", lambda: io.read_particles(path))
    write("blob", num_items=24)
    _refused(r"J7\.csg: results/blob has no metafile", lambda: io.read_particles(path))
    write("location", metafile=">J7.cs", num_items=24, type="particle.location")
    _refused(r"J7\.csg: slot location has no fields in .*J7\.cs", lambda: io.read_particles(path))
    write("location", metafile=">gone.cs", num_items=24, type="particle.location")
    with pytest.warns(UserWarning, match=r"slot location: .*gone\.cs does not exist: exports will lack this slot"):
        assert len(io.read_particles(path)) == 24
    path.write_text("just: text\n")
    _refused(r"J7\.csg: is not a \.csg file \(it lists no results\)", lambda: io.read_particles(path))


def test_csg_whose_files_hold_other_particles(job: Path) -> None:
    path = job.with_suffix(".csg")
    whole = yaml.safe_load(path.read_text())
    table = np.load(job)
    _save(job.with_name("other.cs"), table[:20])
    whole["results"]["blob"]["metafile"] = ">other.cs"
    path.write_text(yaml.safe_dump(whole))
    _refused(r"J7\.csg: 4 of 24 particles \(first: uid \d+\) are not in .*other\.cs", lambda: io.read_particles(path))


def test_volumes_are_no_particles_and_particles_no_half_maps(job: Path) -> None:
    volume = np.zeros(1, [("uid", "u8"), ("map_half_A/path", "S20"), ("map_half_B/path", "S20")])
    volume["map_half_A/path"] = volume["map_half_B/path"] = b"gone.mrc"
    _save(job.with_name("volume.cs"), volume)
    path = job.with_name("volume.cs")
    _refused(r"volume\.cs: contains no particles, only map_half_A, map_half_B", lambda: io.read_particles(path))
    _refused(r"volume\.cs: map gone\.mrc of slot map_half_A does not exist", lambda: io.read_half_maps(path))
    _refused(r"J7\.cs: no slot map_half_A", lambda: io.read_half_maps(job))
