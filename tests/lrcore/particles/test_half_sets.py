"""New half sets: balanced, random, reproducible, and what shows the same particle stays together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lrcore.errors import InputError
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.io.star_table import StarSource
from lrcore.particles.duplicates import require_disjoint_half_sets
from lrcore.particles.half_sets import (
    assign_half_sets,
    filament_numbers,
    half_set_warnings,
    require_both_half_sets,
    resplit,
)
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrcore.records import Particles
from tests.fakes import make_particles


def test_a_new_split_is_balanced_reproducible_and_knows_nothing_of_the_old_one() -> None:
    particles = make_particles(1001)
    found = resplit(particles, None, 3)
    assert np.array_equal(found.half, resplit(particles, None, 3).half)
    assert not np.array_equal(found.half, resplit(particles, None, 4).half)
    assert np.bincount(found.half).tolist() == [0, 501, 500]
    alike = np.mean(found.half == particles.half)
    assert abs(alike - 0.5) < 5 * 0.5 / np.sqrt(1001)


def test_copies_of_a_particle_and_rows_of_an_image_stay_together() -> None:
    copies = expand_symmetry(make_particles(20), "D2")
    split = replace(copies, half=(np.arange(80) % 2 + 1).astype(np.int8))
    with pytest.raises(InputError, match="different half sets"):
        require_disjoint_half_sets(split)
    found = resplit(split, None, 0)
    require_disjoint_half_sets(found)
    assert np.bincount(found.half).tolist() == [0, 40, 40]
    assert np.all(found.half.reshape(20, 4) == found.half.reshape(20, 4)[:, :1])


def test_neighbours_of_neighbours_in_a_micrograph_stay_together() -> None:
    """A chain of images 15 Å apart is one family, however long."""
    particles = make_particles(30)
    micrograph = np.repeat([0, 1, 2], 10)
    pixel = np.stack([15.0 * np.arange(30), np.zeros(30)], axis=1)
    still = replace(particles, poses=replace(particles.poses, origin_A=np.zeros((30, 2))))
    found = resplit(still, MicrographCoordinates(micrograph, pixel, np.ones(30), False), 0)
    for number in range(3):
        assert len(np.unique(found.half[micrograph == number])) == 1
    assert len(np.unique(found.half)) == 2


def test_large_families_are_dealt_to_the_smaller_half() -> None:
    count = np.array([50, *[1] * 50])
    half = assign_half_sets(count, 0)
    assert [int(count[half == number].sum()) for number in (1, 2)] in ([50, 50], [51, 49], [49, 51])


def test_what_cannot_be_split_is_refused() -> None:
    particles = make_particles(4)
    one = replace(particles, images=replace(particles.images, index=np.zeros(4, np.int64)))
    with pytest.raises(InputError, match="all rows show the same particle"):
        resplit(one, None, 0)


@pytest.mark.parametrize(("counts", "missing"), [((9, 0), 2), ((0, 9), 1)])
def test_an_empty_half_set_says_what_to_do(counts: tuple[int, int], missing: int) -> None:
    half = np.repeat(np.array([1, 2], np.int8), counts)
    with pytest.raises(InputError, match=rf"half set {missing} has no particles.*--resplit"):
        require_both_half_sets(replace(make_particles(9), half=half))


def test_uneven_half_sets_are_warned_of_and_nearly_even_ones_are_not() -> None:
    particles = make_particles(100)
    (line,) = half_set_warnings(replace(particles, half=np.repeat(np.array([1, 2], np.int8), [70, 30])))
    assert "half sets of 70 and 30 particles" in line
    assert "--resplit" in line
    assert list(half_set_warnings(replace(particles, half=np.repeat(np.array([1, 2], np.int8), [54, 46])))) == []


def segments(columns: dict[str, list[object]]) -> Particles:
    """120 segments with columns of a STAR table."""
    particles = make_particles(120)
    table = pd.DataFrame({name: [str(value) for value in values] for name, values in columns.items()})
    source = StarSource(Path("p.star"), {"particles": table}, "particles", None, particles.uid)
    return replace(particles, source=source)


TUBES = {
    "rlnMicrographName": [f"m{i // 60}.mrc" for i in range(120)],
    "rlnHelicalTubeID": [i % 60 // 10 for i in range(120)],
}


@pytest.mark.parametrize(
    ("columns", "count", "size"),
    [
        (TUBES, 12, 10),
        ({"rlnHelicalTubeID": TUBES["rlnHelicalTubeID"]}, 6, 20),
        ({"lrwCs/filament/filament_uid:u8": [10**15 + i // 10 for i in range(120)]}, 12, 10),
    ],
    ids=["tubes of micrographs", "tubes", "identifiers"],
)
def test_segments_of_a_filament_stay_together(columns: dict[str, list[object]], count: int, size: int) -> None:
    particles = segments(columns)
    filament = filament_numbers(particles)
    assert np.bincount(filament).tolist() == [size] * count
    (line,) = half_set_warnings(particles)
    assert f"{count} of {count} helical filaments have segments in both half sets" in line
    found = resplit(particles, None, 0)
    assert np.bincount(found.half).tolist() == [0, 60, 60]
    assert all(len(np.unique(found.half[filament == number])) == 1 for number in range(count))
    assert list(half_set_warnings(found)) == []
    assert filament_numbers(make_particles(5)) is None
