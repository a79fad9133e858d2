"""STAR files as users have them: other encodings, numbers as scripts write them, no origins, tables of tomography."""

import codecs
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.io import convert, star_table
from lrcore.io.cs_table import with_columns
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.records import Particles
from lrwidgets.cli._main import main

ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")


def equal(one: Particles, other: Particles) -> None:
    for name in ("uid", "half", "group", "defocus_A", "phase_shift_rad"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.poses.origin_A, other.poses.origin_A)
    assert one.optics == other.optics


def refused(pattern: str, path: Path, images: Path | None = None) -> str:
    with pytest.raises(InputError, match=pattern) as caught:
        io.read_particles(path, images)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Encodings

ENCODINGS = {
    "byte order mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "both": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "carriage returns alone": lambda text: text.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_same_text_in_another_encoding_gives_the_same_particles(make, name: str) -> None:
    make.stack()
    path = make.star()
    other = make.folder / "other.star"
    other.write_bytes(ENCODINGS[name](path.read_text()))
    equal(io.read_particles(path), io.read_particles(other))


def test_latin_1_is_read_with_a_word_and_finds_stacks_named_so(make) -> None:
    make.stack("stacks/é.mrcs")
    path = make.star(rlnImageName=[f"{i + 1}@stacks/é.mrcs" for i in range(make.count)])
    expected = io.read_particles(path)
    path.write_bytes(path.read_text().encode("latin-1"))
    for name in (os.fsencode("é.mrcs"), b"\xe9.mrcs"):
        (stack,) = (make.folder / "stacks").iterdir()
        stack.rename(make.folder / "stacks" / os.fsdecode(name))
        with pytest.warns(UserWarning, match=r"particles\.star: is not UTF-8: its text is read as Latin-1"):
            found = io.read_particles(path)
        equal(found, expected)
        assert os.fsencode(found.images.stacks[0].name) == name


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_utf_16_is_called_so(make, encoding: str) -> None:
    path = make.star()
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    path.write_bytes(mark + path.read_text().encode(encoding))
    refused(r"particles\.star: is UTF-16 or UTF-32 text: save it as UTF-8", path)


def test_bytes_of_no_text_are_not_called_latin_1(make) -> None:
    path = make.star()
    path.write_bytes(path.read_bytes().replace(b"first", b"fi\xff\x85t"))
    refused(r"is not a STAR file \(it is not text\)", path)


# Numbers

WHOLE = ("rlnOpticsGroup", "rlnRandomSubset", "rlnImageSize", "rlnImageDimensionality", "rlnCtfDataAreCtfPremultiplied")


@pytest.mark.parametrize("form", ["{}.000000", "{}.0", "+{}", "{}e0", '"{}"', "0{}"])
def test_whole_numbers_as_scripts_write_them(make, form: str) -> None:
    make.stack()
    optics = make.optics() | {"rlnCtfDataAreCtfPremultiplied": [0, 1]}
    plain = io.read_particles(make.star("plain.star", optics))
    columns = {name: [form.format(v) for v in values] for name, values in make.columns().items() if name in WHOLE}
    optics |= {name: [form.format(v) for v in values] for name, values in optics.items() if name in WHOLE}
    columns["rlnImageName"] = [f"{i + 1}.000000@stacks/particles.mrcs" for i in range(make.count)]
    path = make.star("other.star", optics, **columns)
    equal(io.read_particles(path), plain)
    there = convert.star_to_cs(star_table.read_source(path))
    np.testing.assert_array_equal(there["alignments3D/split"], plain.half - 1)
    assert main(["info", str(path)]) == 0


def test_groups_of_particles_and_optics_are_compared_as_numbers(make) -> None:
    """The pixel size of the micrographs is that of the group, whether it is called 1 or 1.000000."""
    make.stack()
    places = {"rlnCoordinateX": range(make.count), "rlnCoordinateY": range(make.count)}
    optics = make.optics() | {"rlnMicrographPixelSize": [0.5, 0.75]}
    groups = [f"{value}.000000" for value in make.columns()["rlnOpticsGroup"]]
    found = read_micrograph_coordinates(io.read_particles(make.star(optics=optics, rlnOpticsGroup=groups, **places)))
    assert found is not None
    np.testing.assert_array_equal(found.pixel_size_A, np.where(np.arange(make.count) % 2, 0.75, 0.5))


def test_truth_values_of_scripts(make) -> None:
    make.stack()
    optics = make.optics() | {"rlnCtfDataAreCtfPremultiplied": ["False", "True"]}
    assert [group.ctf_premultiplied for group in io.read_particles(make.star(optics=optics)).optics] == [False, True]


def test_carried_integers_that_became_decimals_are_restored(make) -> None:
    make.stack()
    there = star_table.read_source(make.star(**{"lrwCs/alignments2D/class:u4": ["7.000000"] * make.count}))
    assert (convert.star_to_cs(there)["alignments2D/class"] == 7).all()
    bad = star_table.read_source(make.star(**{"lrwCs/alignments2D/class:u4": ["7.5"] * make.count}))
    with pytest.raises(InputError, match=r"'7\.5' is not a whole number"):
        convert.star_to_cs(bad)


def test_truth_values_of_a_cryosparc_table_come_back(make) -> None:
    make.stack()
    table = convert.star_to_cs(star_table.read_source(make.star()))
    flags = np.arange(make.count) % 3 == 0
    with (make.folder / "a.cs").open("wb") as file:
        np.save(file, with_columns(table, {"more/flag": flags}))
    for names in (("a.cs", "b.star"), ("b.star", "c.cs")):
        assert main(["convert", *(str(make.folder / name) for name in names)]) == 0
    back = np.load(make.folder / "c.cs")["more/flag"]
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, flags)


# No origins


@pytest.mark.parametrize("old", [False, True])
def test_without_origins_the_images_are_centred_and_it_is_said(make, old: bool) -> None:
    """As M exports 2D particle series."""
    make.stack()
    path = make.star(without=ORIGINS)
    if old:
        path.write_text(
            make.old_star().read_text().replace("_rlnOriginX ", "_otherX ").replace("_rlnOriginY ", "_otherY ")
        )
    for read in (io.read_particles, lambda path: convert.star_to_cs(star_table.read_source(path))):
        with pytest.warns(UserWarning, match=r"no column rlnOriginXAngst, rlnOriginYAngst: the origins are taken as 0"):
            found = read(path)
        values = found.poses.origin_A if isinstance(found, Particles) else found["alignments3D/shift"]
        assert not values.any()
    assert io.describe_file(path)["poses"] is True
    refused(r"no column rlnOriginXAngst: .*no 3D poses", make.star(without=ORIGINS[:1]))


# Tomography


TOMOGRAPHY = {
    "RELION 5": {"rlnTomoName": "TS_01", "rlnTomoParticleName": "TS_01/1", "rlnTomoVisibleFrames": "[1,1,0]"},
    "RELION 4": {"rlnTomoName": "TS_01", "rlnCtfImage": "ctf/1.mrc"},
    "RELION 3": {"rlnCtfImage": "ctf/1.mrc", "rlnCoordinateZ": "7", "rlnOriginZAngst": "0"},
}


@pytest.mark.parametrize("name", TOMOGRAPHY)
@pytest.mark.parametrize("image", ["series/TS_01_{:06d}.mrcs", "{:06d}@stacks/particles.mrcs", None])
def test_subtomograms_are_called_so(make, name: str, image: str | None, capsys) -> None:
    """Also where slices precede the names, which would lead to the first tilt, and where images have no name yet."""
    make.stack()
    columns = {column: [value] * make.count for column, value in TOMOGRAPHY[name].items()}
    without = () if image else ("rlnImageName",)
    images = {"rlnImageName": [image.format(i + 1) for i in range(make.count)]} if image else {}
    path = make.star(without=without, **columns, **images)
    refused(r"particles\.star: lists subtomograms or tilt series \(rln\w+\), which are not supported", path)
    for command in (["info", str(path)], ["convert", str(path), str(make.folder / "out.cs")]):
        assert main(command) == 2
        assert "lists subtomograms" in capsys.readouterr().err
    assert not (make.folder / "out.cs").exists()


def test_three_dimensional_images_are_subtomograms(make) -> None:
    path = make.star(optics=make.optics() | {"rlnImageDimensionality": ["3.000000", 3]})
    refused(r"lists subtomograms or tilt series \(rlnImageDimensionality 3\)", path)
    z = {"rlnCoordinateZ": [5] * make.count}
    refused(r"\(rlnCoordinateZ\)", make.star(rlnImageName=["a.mrc"] * make.count, **z))


def test_a_coordinate_z_alone_makes_no_tomogram(make) -> None:
    make.stack()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(io.read_particles(make.star(rlnCoordinateZ=[0] * make.count))) == make.count
