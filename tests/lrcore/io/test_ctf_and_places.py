"""B-factors below 0, CTF values that are no numbers, and the pixel size of the micrographs."""

import warnings

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.checks import MAX_GAIN_BY_BFACTOR, require_usable_bfactors
from lrcore.io.cs_table import with_columns
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates


def converted(make, **fields) -> str:
    """The particles as a .cs with other fields."""
    particles = io.read_particles(make.star())
    io.write_particles(make.folder / "a.cs", particles, particles.poses)
    table = np.load(make.folder / "a.cs")
    out = with_columns(table, {name.replace("__", "/"): column for name, column in fields.items()})
    with (make.folder / "b.cs").open("wb") as file:
        np.save(file, out)
    return make.folder / "b.cs"


@pytest.mark.parametrize("kind", ["star", "cs"])
def test_bfactors_below_0_are_warned_of_and_steep_ones_refused(make, kind: str) -> None:
    make.stack()
    bfactor = [20.0] * make.count
    bfactor[4:] = [-13.0 - i for i in range(make.count - 4)]
    given = make.star(rlnCtfBfactor=bfactor) if kind == "star" else converted(make, ctf__bfactor=np.array(bfactor))
    with pytest.warns(UserWarning, match=rf"row 5: B-factor -13 A2 is below 0 \(20 of {make.count} particles\)"):
        particles = io.read_particles(given)
    require_usable_bfactors(particles)
    steep = -16 * make.pixel**2 * np.log(MAX_GAIN_BY_BFACTOR) - 1
    assert np.exp(-steep / 4 / (2 * make.pixel) ** 2) == pytest.approx(MAX_GAIN_BY_BFACTOR, rel=0.05)
    bfactor[6] = steep
    given = make.star(rlnCtfBfactor=bfactor) if kind == "star" else converted(make, ctf__bfactor=np.array(bfactor))
    with pytest.warns(UserWarning, match="below 0"):
        particles = io.read_particles(given)
    with pytest.raises(InputError, match=r"row 7: B-factor -8.* multiplies the CTF by more than 10"):
        require_usable_bfactors(particles)


def test_bfactors_of_0_and_more_pass(make) -> None:
    make.stack()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_usable_bfactors(io.read_particles(make.star(rlnCtfBfactor=[0.0, 1e4] * (make.count // 2))))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "<NA>"])
@pytest.mark.parametrize(
    "column", ["rlnDefocusU", "rlnDefocusAngle", "rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor", "rlnAngleRot"]
)
def test_a_value_that_is_no_number_is_named_with_its_row(make, column: str, value: str) -> None:
    make.stack()
    values = [str(number) for number in make.columns()[column]]
    values[10] = value
    with pytest.raises(InputError, match=f"row 11: {column} is '{value}', not a finite number"):
        io.read_particles(make.star(**{column: values}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["ctf/df1_A", "ctf/phase_shift_rad", "ctf/cs_mm", "ctf/bfactor", "alignments3D/pose"])
def test_a_field_that_is_no_number_is_named_with_its_row(make, name: str, value: float) -> None:
    make.stack()
    particles = io.read_particles(make.star())
    io.write_particles(make.folder / "a.cs", particles, particles.poses)
    column = np.load(make.folder / "a.cs")[name].copy()
    column[10] = value
    with pytest.raises(InputError, match=f"row 11 .*{name} is not a finite number"):
        io.read_particles(converted(make, **{name: column}))


@pytest.mark.parametrize(
    ("sizes", "expected", "assumed", "movies"),
    [
        ({"rlnMicrographPixelSize": 1.2, "rlnMicrographOriginalPixelSize": 0.6}, 1.2, False, None),
        ({"rlnMicrographPixelSize": 1.2}, 1.2, False, None),
        ({"rlnMicrographOriginalPixelSize": 0.75}, 1.5, True, 0.75),
        ({"rlnMicrographOriginalPixelSize": 1.5}, 1.5, False, None),
        ({}, 1.5, True, None),
    ],
    ids=["both", "micrographs", "movies, binned or images scaled", "movies as images", "none"],
)
@pytest.mark.parametrize("where", ["optics", "particles"])
def test_coordinates_are_measured_in_pixels_of_the_micrographs(
    make, sizes: dict[str, float], expected: float, assumed: bool, movies: float | None, where: str
) -> None:
    make.stack()
    place = {f"rlnCoordinate{axis}": [100.0 + i for i in range(make.count)] for axis in "XY"}
    optics = make.optics() | ({name: [size, size] for name, size in sizes.items()} if where == "optics" else {})
    columns = {} if where == "optics" else {name: [size] * make.count for name, size in sizes.items()}
    particles = io.read_particles(make.star(optics=optics, **place, **columns))
    found = read_micrograph_coordinates(particles)
    assert found.pixel_size_A == pytest.approx(np.full(make.count, expected))
    assert (found.pixel_size_is_assumed, found.movie_pixel_size_A) == (assumed, movies)
    given = read_micrograph_coordinates(particles, 3.0)
    assert (given.pixel_size_A == 3.0).all()
    assert (given.pixel_size_is_assumed, given.movie_pixel_size_A) == (False, None)
