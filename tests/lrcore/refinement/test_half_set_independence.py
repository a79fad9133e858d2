"""The half sets know nothing of each other but the FSC; images that are none are found, named and weigh nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.io import read_particles, read_volume
from lrcore.io.image_stacks import StackReader
from lrcore.particles.bad_images import (
    CONSTANT,
    IMPLAUSIBLE,
    NOT_FINITE,
    VALID,
    bad_image_message,
    find_defects,
    typical_sd,
)
from lrcore.particles.image_stream import batches, reading_order
from lrcore.records import FLAG_BAD_IMAGE, Particles, Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.refinement.subtraction import subtracted_images
from lrcore.simulation.data_set import simulate_flexible_particle
from tests.fakes import same_bits

HURT = {3: np.nan, 10: np.inf, 17: 4.0, 24: 1e30}
"""Row → what its pixels become: the last, one of them only."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_flexible_particle(folder, n=60, box=32, pixel_size_A=5.75, snr=0.3)
    return folder


@pytest.fixture(scope="module")
def job(folder: Path) -> Job:
    return Job(read_particles(folder / "particles.star"), read_volume(folder / "mask_b.mrc"), RefineSpec())


@pytest.fixture(scope="module")
def first(job: Job) -> Step:
    *_, step = start(job, get_backend("cpu", 1))
    return step


def following(job: Job, first: Step) -> Step:
    *_, step = run_iteration(job, first, first, get_backend("cpu", 1))
    return step


def beside(folder: Path, job: Job, name: str) -> tuple[Job, Path]:
    """The job on a copy of its images, and that copy."""
    stack = folder / name
    shutil.copy(folder / "particles.mrcs", stack)
    return replace(job, particles=with_stack(job.particles, stack)), stack


def with_stack(particles: Particles, stack: Path) -> Particles:
    return replace(particles, images=replace(particles.images, stacks=(stack,)))


def hurt(folder: Path, job: Job, name: str) -> Job:
    """The job with the images in HURT broken."""
    other, stack = beside(folder, job, name)
    with mrcfile.open(stack, "r+") as file:
        for row, value in HURT.items():
            at = (job.particles.images.index[row], *((slice(None),) * 2 if row < 24 else (5, 5)))
            file.data[at] = value
    return other


@pytest.mark.parametrize("changes", [{}, {"non_uniform": True, "per_particle_scale": True, "marginalize": False}])
@pytest.mark.parametrize("half", [1, 2])
def test_half_sets_never_mix(
    half: int, changes: dict[str, object], folder: Path, job: Job, first: Step, request: pytest.FixtureRequest
) -> None:
    """Noise in place of the images of one half set leaves map, poses and noise of the other as they are, to the bit.

    From the same step, for one iteration: what the next one sees is filtered by the FSC, which is of both.
    """
    job = replace(job, spec=RefineSpec(**changes))
    other, stack = beside(folder, job, f"{half}{len(changes)}.mrcs")
    mine = job.particles.half == half
    with mrcfile.open(stack, "r+") as file:
        at = job.particles.images.index[mine]
        file.data[at] = np.random.default_rng(half).normal(0, 1, (len(at), 32, 32))
    before, after = following(job, first), following(other, first)
    rows = np.nonzero(~mine)[0]
    assert same_bits(before.half_maps.half(3 - half), after.half_maps.half(3 - half))
    assert same_bits(before.expectation.select(rows), after.expectation.select(rows))
    assert same_bits(before.noise[2 - half], after.noise[2 - half])
    assert not np.allclose(before.half_maps.half(half).data, after.half_maps.half(half).data, rtol=0.1)
    changed = np.abs(before.expectation.poses.origin_A - after.expectation.poses.origin_A)[mine].max(axis=1)
    assert np.mean(changed > 0) > 0.9


def test_broken_images_weigh_nothing(folder: Path, job: Job, first: Step) -> None:
    """The maps are those of the other images alone, and every number of the step is one."""
    rows, other = np.array(sorted(HURT)), hurt(folder, job, "hurt.mrcs")
    with pytest.warns(UserWarning, match="4 invalid images skipped"):
        step = following(other, first)
    assert np.nonzero(step.expectation.flags & FLAG_BAD_IMAGE)[0].tolist() == rows.tolist()
    assert step.history[-1].skipped == len(rows)
    given = job.particles.poses
    assert step.expectation.poses.rotation[rows] == pytest.approx(given.rotation[rows], abs=1e-12)
    assert step.expectation.poses.origin_A[rows] == pytest.approx(given.origin_A[rows], abs=1e-9)
    kept = np.setdiff1d(np.arange(len(job.particles)), rows)
    without = replace(job, particles=job.particles.select(kept))
    alone = following(without, replace(first, expectation=first.expectation.select(kept)))
    for half in (1, 2):
        expected = alone.half_maps.half(half).data
        assert step.half_maps.half(half).data == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))
    same = step.expectation.select(kept)
    assert same.poses.origin_A == pytest.approx(alone.expectation.poses.origin_A, abs=1e-3)
    assert all(np.isfinite(curve.value).all() for curve in step.fsc.values())


def test_a_start_with_broken_images_is_that_of_the_others(folder: Path, job: Job) -> None:
    with pytest.warns(UserWarning, match="skipped"):
        *_, step = start(hurt(folder, job, "start.mrcs"), get_backend("cpu", 1))
    kept = np.setdiff1d(np.arange(len(job.particles)), list(HURT))
    *_, alone = start(replace(job, particles=job.particles.select(kept)), get_backend("cpu", 1))
    for half in (1, 2):
        expected = alone.half_maps.half(half).data
        assert step.half_maps.half(half).data == pytest.approx(expected, abs=1e-3 * float(np.abs(expected).max()))
    assert step.noise == pytest.approx(alone.noise, rel=1e-3)


def test_they_are_named_by_row_file_and_reason(folder: Path, job: Job) -> None:
    particles = hurt(folder, job, "named.mrcs").particles
    with StackReader(particles.images, particles.box) as reader:
        images, finite = reader.read_with_finite_flags(range(len(particles)))
        found = find_defects(images, finite, typical_sd(reader, np.arange(len(particles))))
    kinds = {3: NOT_FINITE, 10: NOT_FINITE, 17: CONSTANT, 24: IMPLAUSIBLE}
    assert {row: int(kind) for row, kind in enumerate(found) if kind != VALID} == kinds
    said = bad_image_message(particles, np.array([3, 17, 24]))
    assert said.startswith(f"{particles.path}: 3 invalid images skipped")
    for words in (
        "row 4 (image 4 of named.mrcs: NaN or infinite pixels)",
        "row 18 (image 18 of named.mrcs: constant)",
        "row 25 (image 25 of named.mrcs: implausible amplitude)",
    ):
        assert words in said
    assert "and 5 more" in bad_image_message(particles, np.arange(10))
    fewer = particles.select(np.array([5, 17]))
    assert "row 18 (image 18" in bad_image_message(fewer, np.array([1]))  # its row in the table, not in the subset


def test_sound_images_of_any_unit_are_sound(folder: Path, job: Job) -> None:
    """Amplitudes that differ by 10, offsets, and the noise of dark images: none of that is broken."""
    other, stack = beside(folder, job, "units.mrcs")
    with mrcfile.open(stack, "r+") as file:
        file.data[::2] *= 10
        file.data[:] = file.data * 1e-6 + 1e-4
    particles = other.particles
    rows = reading_order(particles)
    assert not any(batch.bad.any() for batch in batches(particles, rows, get_backend("cpu", 1)))


def test_a_half_set_without_any_image_is_refused(folder: Path, job: Job, first: Step) -> None:
    other, stack = beside(folder, job, "none.mrcs")
    with mrcfile.open(stack, "r+") as file:
        file.data[job.particles.images.index[job.particles.half == 2]] = 0
    with pytest.raises(InputError, match=r"particles\.star: a half set has no valid image"):
        following(other, first)


def test_a_broken_image_is_not_written_on(folder: Path, job: Job, first: Step) -> None:
    with pytest.raises(InputError, match=r"written\.mrcs: image 4 has NaN or infinite pixels: remove it"):
        list(subtracted_images(hurt(folder, job, "written.mrcs"), first, first, get_backend("cpu", 1)))
