"""Symmetry with any mask: the density inside keeps its amplitude, noise does not correlate, half sets never mix."""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore.arrays import Float32
from lrcore.compute.backend import get_backend
from lrcore.imaging.grids import ift
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.maps.body_maps import body_in_box
from lrcore.masks import overlaps_with_copies
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrcore.records import HalfMaps, ImageSource, Particles, Poses, Step, Volume
from lrcore.refinement.density import mask_of_all_copies, symmetry_of_mask
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job, check_job
from lrcore.refinement.parameter_checks import parameter_warnings
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.refinement.subtraction import subtracted_images, writing_order
from lrcore.simulation.atoms import density_of_atoms
from lrcore.simulation.data_set import make_particles, random_rotations, simulate_noise_particles, soft_mask
from lrcore.simulation.images import noise_ft, project, write_stack
from lrcore.simulation.phantom import Phantom, SimulatedMotion, make_two_body_phantom
from tests.fakes import same_bits

BOX, PIXEL, BFACTOR_A2, N_IMAGES = 40, 5.0, 250.0, 160
LARGEST_AMPLITUDE = 1.05
"""A window cuts the tails of the CTFs, which are wide in so small a box: they are missing in the weights."""
UNIT_A = {"C2": (18, 26), "C4": (16, 38), "D2": (16, 38), "I": (9, 66)}
"""Radius of a unit and the distance of its middle from the box centre, Å."""

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Symmetric:
    """Images of a symmetric particle at their true poses, its map, and masks of one, of two, and of all units."""

    particles: Particles
    density: Float32
    units: tuple[Volume, Volume, Volume]

    def job(self, symmetry: str, mask: Volume, **changes: object) -> Job:
        truth = Volume(self.density, PIXEL)
        spec = RefineSpec(symmetry=symmetry, marginalize=False, rotation_prior_sd_deg=1, shift_prior_sd_A=1, **changes)
        return Job(self.particles, mask, spec, HalfMaps(truth, truth))

    def amplitude(self, volume: Volume) -> float:
        """Amplitude of a map in units of the true density, by least squares well inside one unit's mask."""
        inside = self.units[0].data > 0.99
        return float((volume.data * self.density)[inside].sum() / (self.density[inside] ** 2).sum())


Simulate = Callable[[str], Symmetric]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulate:
    @lru_cache
    def make(group: str) -> Symmetric:
        folder, (radius, distance) = tmp_path_factory.mktemp(group), UNIT_A[group]
        body = make_two_body_phantom(3, radius, radius).body_b
        one = body - body.mean(axis=0) + np.array([0.8, 0.45, 0.4]) * distance
        atoms = one @ symmetry_operators(group).transpose(0, 2, 1)
        rng = np.random.default_rng(5)
        poses = Poses(random_rotations(N_IMAGES, rng), rng.normal(0, 3, (N_IMAGES, 2)))
        particles = make_particles(folder, poses, BOX, PIXEL, (8000.0, 15000.0), 1, rng)
        still = SimulatedMotion(*np.zeros((2, N_IMAGES, 3)), np.zeros(3))
        whole = Phantom(np.concatenate(atoms), np.zeros((0, 3)), np.zeros(3))
        gain = 1 / ift(next(project(whole, particles, poses, still, BFACTOR_A2)), BOX, 2).std()
        signal, noise = project(whole, particles, poses, still, BFACTOR_A2), noise_ft(particles, "white", rng)
        write_stack(particles, (gain * a + 0.7 * b for a, b in zip(signal, noise, strict=True)), False)
        density = (gain * density_of_atoms(np.concatenate(atoms), BOX, PIXEL, BFACTOR_A2)).astype(np.float32)
        units = (atoms[0], np.concatenate(atoms[:2]), np.concatenate(atoms))
        return Symmetric(particles, density, tuple(Volume(soft_mask(u, BOX, PIXEL), PIXEL) for u in units))

    return make


def refined(job: Job) -> Step:
    """The first iteration."""
    backend = get_backend("cpu", 2)
    *_, first = start(job, backend)
    *_, step = run_iteration(job, first, first, backend)
    return step


@pytest.mark.parametrize("group", UNIT_A)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_density_in_a_mask_keeps_its_amplitude(group: str, number: int, simulated: Simulate) -> None:
    """For a mask of one unit, of two, and of all. An average over more views may come nearer to 1, but not exceed it.

    The maps of few images are weaker by up to 15 %, by the ridge of the division.
    """
    case = simulated(group)
    mask = case.units[number]
    plain, symmetric = refined(case.job("C1", mask)), refined(case.job(group, mask))
    for half in (1, 2):
        expected, found = (case.amplitude(step.half_maps.half(half)) for step in (plain, symmetric))
        assert 0.8 < expected < LARGEST_AMPLITUDE
        assert 0.97 * expected < found < LARGEST_AMPLITUDE
        if number == 0:
            assert same_bits(plain.half_maps.half(half), symmetric.half_maps.half(half))


@pytest.mark.parametrize("group", UNIT_A)
def test_amplitude_is_that_of_expanded_particles(group: str, simulated: Simulate) -> None:
    """With a mask of all units, and with one of a single unit whose copies are refined each for itself."""
    case = simulated(group)
    few = replace(case, particles=case.particles.select(np.arange(12 if group == "I" else 40)))
    expanded = replace(few, particles=expand_symmetry(few.particles, group))
    symmetric, copies = refined(few.job(group, few.units[2])), refined(expanded.job("C1", few.units[2]))
    of_a_unit = refined(expanded.job("C1", few.units[0]))
    found, expected, unit = (case.amplitude(step.half_maps.first) for step in (symmetric, copies, of_a_unit))
    assert found == pytest.approx(expected, rel=0.03)
    assert unit == pytest.approx(expected, rel=0.1)  # poses of a single unit are less certain


def test_the_map_of_a_unit_holds_this_unit_alone(simulated: Simulate) -> None:
    case = simulated("C4")
    body = refined(case.job("C4", case.units[0])).body
    assert body is not None
    symmetric = body_in_box(body, BOX, 1)
    unit = case.density * case.units[0].data
    around = case.density * (case.units[2].data - case.units[0].data)
    inside, outside = case.units[0].data > 0.9, (case.units[2].data > 0.9) & (case.units[0].data < 0.01)
    assert np.corrcoef(symmetric.data[inside], unit[inside])[0, 1] > 0.95
    kept = float((symmetric.data * around)[outside].sum() / (around[outside] ** 2).sum())
    assert abs(kept) < 0.1  # the other units were subtracted, and no copy of this one was put in their place


def test_a_mask_that_almost_has_the_symmetry_loses_no_density(simulated: Simulate) -> None:
    """The mask of all units, a tenth of its volume off the end of one of them: its copies cover that end."""
    case = simulated("D2")
    whole, unit = case.units[2], case.units[0].data > 0.5
    end = unit & (np.indices(unit.shape)[2] >= np.quantile(np.nonzero(unit)[2], 0.65))
    cut = replace(whole, data=np.where(end, 0, whole.data).astype(np.float32))
    assert symmetry_of_mask(cut, "D2") == "D2"
    assert overlaps_with_copies(cut.data, symmetry_operators("D2")).mean() < 0.97
    assert mask_of_all_copies(cut, "D2").data[end] == pytest.approx(whole.data[end], abs=0.05)
    assert mask_of_all_copies(whole, "D2") is whole
    maps = [refined(case.job("D2", mask)).half_maps.first.data[end] for mask in (cut, whole)]
    assert float((maps[0] * maps[1]).sum() / (maps[1] ** 2).sum()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_noise_does_not_correlate(number: int, simulated: Simulate, tmp_path: Path) -> None:
    case = simulated("D2")
    poses = case.particles.poses
    particles = simulate_noise_particles(tmp_path, n=len(poses), box=BOX, pixel_size_A=PIXEL, noise="white")
    step = refined(replace(case.job("D2", case.units[number]), particles=particles, half_maps=None))
    shells = slice(4, BOX // 2 - 1)
    assert abs(float(step.fsc["masked"].value[shells].mean())) < 0.15
    assert abs(float(step.fsc["corrected"].value[shells].mean())) < 0.15


@pytest.mark.parametrize("number", [0, 2])
def test_half_sets_never_mix(number: int, simulated: Simulate, tmp_path: Path) -> None:
    """Noise in place of the images of half set 2 leaves the map and the poses of half set 1 as they are, to the bit."""
    case, backend = simulated("C4"), get_backend("cpu", 1)
    job, stack = case.job("C4", case.units[number]), tmp_path / "other.mrcs"
    *_, first = start(job, backend)
    shutil.copy(case.particles.images.stacks[0], stack)
    with mrcfile.open(stack, "r+") as file:
        file.data[case.particles.half == 2] = np.random.default_rng(1).normal(0, 1, (BOX, BOX))
    images = replace(case.particles.images, stacks=(stack,))
    other = replace(job, particles=replace(case.particles, images=images))
    (*_, before), (*_, after) = (run_iteration(each, first, first, backend) for each in (job, other))
    rows = np.nonzero(case.particles.half == 1)[0]
    assert same_bits(before.half_maps.first, after.half_maps.first)
    assert same_bits(before.expectation.select(rows), after.expectation.select(rows))
    assert not np.allclose(before.half_maps.second.data, after.half_maps.second.data, rtol=0.1)


@pytest.mark.parametrize("number", [0, 2])
def test_the_first_half_maps_of_subtracted_images(number: int, simulated: Simulate) -> None:
    """Images of which another program has subtracted the other units are averaged over no copies."""
    case = simulated("C4")
    maps = []
    for symmetry in ("C1", "C4"):
        job = replace(case.job(symmetry, case.units[number]), half_maps=None)
        *_, first = start(replace(job, particles=replace(case.particles, subtracted=True)), get_backend("cpu", 1))
        maps.append(first.half_maps.first)
    assert same_bits(*maps) == (number == 0)


@pytest.mark.slow
def test_subtracted_images_without_a_mark_are_noticed(simulated: Simulate, tmp_path: Path) -> None:
    """A first average over all copies shows copies that the images do not: it is made again without."""
    case, backend = simulated("C4"), get_backend("cpu", 1)
    job = case.job("C1", case.units[0])
    *_, first = start(job, backend)
    images = np.concatenate(list(subtracted_images(job, first, first, backend)))
    n, stack = len(case.particles), tmp_path / "subtracted.mrcs"
    write_image_stack(stack, n, case.particles.box, case.particles.pixel_size_A, [images])
    index = np.argsort(writing_order(case.particles))
    source = ImageSource((stack,), np.zeros(n, np.int32), index, case.particles.images.sign)
    particles, maps = replace(case.particles, images=source), []
    for symmetry in ("C1", "C4"):
        unmarked = replace(case.job(symmetry, case.units[0]), half_maps=None, particles=particles)
        *_, step = start(unmarked, backend)
        maps.append(step.half_maps.first)
    assert same_bits(*maps)


def test_one_line_says_over_how_many_operators_the_map_is_averaged(simulated: Simulate) -> None:
    case = simulated("D2")
    one, two, whole = case.units
    for mask, count in ((one, 1), (two, 2)):
        (line,) = parameter_warnings(mask, RefineSpec(symmetry="D2"))
        assert f"the map is averaged over {count} of 4 operators, those that leave the mask in place; to use" in line
        assert "refine them in C1 (lrwidgets expand)" in line
    assert parameter_warnings(whole, RefineSpec(symmetry="D2")) == ()
    opposite = replace(whole, data=np.maximum(one.data, np.roll(one.data[:, ::-1, ::-1], (1, 1), (1, 2))))
    (line,) = parameter_warnings(opposite, RefineSpec(symmetry="C4"))
    assert line.startswith("symmetry C4 acts about its axis") or "does not leave the mask in place: the map" in line


@pytest.mark.filterwarnings("always")
def test_particles_that_are_expanded_already_are_told(simulated: Simulate) -> None:
    case = simulated("C2")
    job = replace(case.job("C2", case.units[2]), particles=expand_symmetry(case.particles, "C2"))
    with pytest.warns(
        UserWarning, match="320 rows show 160 images, so these particles are expanded by symmetry already"
    ):
        check_job(job)
    with warnings.catch_warnings(record=True) as told:
        check_job(replace(job, spec=RefineSpec()))
        check_job(case.job("C2", case.units[2]))
    assert not [each for each in told if "expanded" in str(each.message)]
