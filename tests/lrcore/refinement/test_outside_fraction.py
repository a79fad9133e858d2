"""Images from which the density outside the mask was subtracted before are known by what they show."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.imaging.grids import ift
from lrcore.io import read_particles, read_volume
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import StackReader
from lrcore.maps.fsc import masked_fsc
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.masks import inscribed_sphere, invert_mask
from lrcore.records import HalfMaps, ImageSource, Particles, Step, Volume
from lrcore.refinement.density import density_to_subtract
from lrcore.refinement.job import Job
from lrcore.refinement.outside_fraction import likeliest_fraction, measure_outside_fraction
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import collect_return_value
from lrcore.refinement.region_sums import RegionSums
from lrcore.refinement.start import start
from lrcore.refinement.subtraction import subtracted_images
from lrcore.results.tree import step_to_datatree, to_step
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from lrcore.simulation.images import project
from lrcore.simulation.phantom import Phantom, SimulatedMotion

BFACTOR_A2, BACKEND = 150.0, get_backend("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    return simulate_flexible_particle(
        tmp_path_factory.mktemp("made"), n=60, box=48, pixel_size_A=4.0, seed=2, snr=0.1, radius_a_A=30.0,
        radius_b_A=26.0, hinge_sd_deg=3.0, bfactor_A2=BFACTOR_A2,
    )  # fmt: skip


def images_of(particles: Particles) -> np.ndarray:
    with StackReader(particles.images, particles.box) as reader:
        return reader.read(np.arange(len(particles)))


def body_a(made: FlexibleParticle) -> np.ndarray:
    """Exact images of body A alone."""
    n = len(made.particles)
    still = SimulatedMotion(np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(3))
    body = Phantom(made.phantom.body_a, np.zeros((0, 3)), np.zeros(3))
    spectra: Iterator[np.ndarray] = project(body, made.particles, made.poses_a, still, BFACTOR_A2)
    return made.gain * np.concatenate([ift(batch, made.particles.box, 2) for batch in spectra])


def subtracted(made: FlexibleParticle, folder: Path, share: np.ndarray | float) -> Particles:
    """Return the particles without this share of body A, for all images or for each."""
    particles = read_particles(made.star)
    taken = np.broadcast_to(share, len(particles))[:, None, None] * body_a(made)
    path = folder / "less.mrcs"
    less = (images_of(particles) - taken).astype(np.float32)
    write_image_stack(path, len(particles), particles.box, particles.pixel_size_A, [less])
    order = np.arange(len(particles))
    source = ImageSource((path,), np.zeros(len(order), np.int32), order, np.ones(len(order), np.float32))
    return replace(particles, images=source)


def maps_of(made: FlexibleParticle) -> HalfMaps:
    truth = read_volume(made.map("gt_full"))
    return HalfMaps(*(replace(truth, data=7 * truth.data) for _ in (1, 2)))


def measured(particles: Particles, maps: HalfMaps, mask: Volume) -> tuple[float, float]:
    found: list[tuple[float, float]] = []
    curve = masked_fsc(maps.first.data, maps.second.data, inscribed_sphere(mask.box))
    counts = list(
        collect_return_value(
            found, measure_outside_fraction(particles, HalfMapSpectra.from_maps(maps), mask, curve, BACKEND)
        )
    )
    assert sum(counts) == len(particles)
    return found[0]


def sums_of(fraction: float, noise: float, cross: float) -> RegionSums:
    """Expected sums of images of amplitude 2 that hold a fraction of the density outside."""
    inside, outside = 1.0 / np.arange(1, 9), 3.0 / np.arange(1, 9)
    both = cross * np.sqrt(inside * outside)
    signal = inside + fraction**2 * outside + 2 * fraction * both
    rows = (2 * (inside + fraction * both), 2 * (both + fraction * outside), inside, outside, both, 4 * signal + noise)
    return RegionSums(*(np.tile(1000 * row, (5, 1)) for row in rows), np.full(8, 1000.0))


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("cross", [0.0, 0.4, -0.4])
def test_the_likeliest_fraction_is_the_true_one(fraction: float, cross: float) -> None:
    assert likeliest_fraction(sums_of(fraction, 5.0, cross)) == pytest.approx(fraction, abs=0.02 * (1 + fraction**2))


def test_images_and_maps_that_do_not_tell_are_taken_for_whole() -> None:
    assert likeliest_fraction(sums_of(0.0, 1e7, 0.0)) == 1.0
    nearly_all_inside = replace(sums_of(0.0, 5.0, 0.0), outside_power=np.full((5, 8), 1.0))
    assert likeliest_fraction(nearly_all_inside) == 1.0


def test_density_that_is_blurred_is_not_taken_for_subtracted() -> None:
    """As where the poses follow the body inside the mask: it is all there at low frequencies."""
    whole, decay = sums_of(1.0, 5.0, 0.0), np.exp(-(np.linspace(0, 1, 8) ** 2))
    power = 4 * (whole.inside_power + decay**2 * whole.outside_power) + 5000.0
    blurred = replace(whole, outside=whole.outside * decay, image_power=power)
    assert likeliest_fraction(blurred) == pytest.approx(1.0, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "wanted"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_what_is_left_is_measured(made: FlexibleParticle, tmp_path: Path, share: float, wanted: float) -> None:
    found = measured(subtracted(made, tmp_path, share), maps_of(made), read_volume(made.map("mask_b")))
    assert found == (pytest.approx(wanted, abs=0.08), pytest.approx(wanted, abs=0.08))


@pytest.mark.slow
def test_a_mask_the_wrong_way_round_is_refused(made: FlexibleParticle, tmp_path: Path) -> None:
    """The images hold body B alone, and the mask is 1 everywhere else."""
    mask = read_volume(made.map("mask_b"))
    with pytest.raises(InputError, match="the wrong way round"):
        measured(subtracted(made, tmp_path, 1.0), maps_of(made), replace(mask, data=invert_mask(mask.data)))


@pytest.mark.slow
def test_images_of_two_kinds_are_told(made: FlexibleParticle, tmp_path: Path) -> None:
    share = (np.arange(len(made.particles)) % 4 < 2).astype(float)
    with pytest.warns(UserWarning, match=r"from about (4|5)\d % of the images the density outside the mask has been"):
        measured(subtracted(made, tmp_path, share), maps_of(made), read_volume(made.map("mask_b")))


@pytest.mark.slow
def test_a_start_from_subtracted_images_subtracts_nothing(made: FlexibleParticle, tmp_path: Path) -> None:
    particles, mask = subtracted(made, tmp_path, 1.0), read_volume(made.map("mask_b"))
    job = Job(particles, mask, RefineSpec(), maps_of(made))
    with pytest.warns(UserWarning, match="is already subtracted from these images .measured"):
        first = next(event for event in start(job, BACKEND) if isinstance(event, Step))
    assert density_to_subtract(job, first, mask, 1) is None
    with pytest.raises(InputError, match="nothing left to subtract"):
        next(subtracted_images(job, first, first, BACKEND))
    inside = mask.data > 0.5
    slope = (first.half_maps.first.data * job.half_maps.first.data)[inside].sum()
    slope *= 7 / (job.half_maps.first.data[inside] ** 2).sum()
    assert slope == pytest.approx(1.0, abs=0.1)  # the maps are on the scale of the body, which the images hold alone


@pytest.mark.slow
def test_a_fraction_is_subtracted_where_a_fraction_is_left(made: FlexibleParticle, tmp_path: Path) -> None:
    mask = read_volume(made.map("mask_b"))
    job = Job(subtracted(made, tmp_path, 0.5), mask, RefineSpec(), maps_of(made))
    with pytest.warns(UserWarning, match=r"images contain [45]\d % and [45]\d % of the density outside the mask"):
        first = next(event for event in start(job, BACKEND) if isinstance(event, Step))
    whole = density_to_subtract(job, replace(first, outside_fraction=(1.0, 1.0)), mask, 1)
    part = density_to_subtract(job, first, mask, 1)
    assert whole is not None
    assert part is not None
    for half in (0, 1):
        for ours, all_of_it in zip(part.parts, whole.parts, strict=True):
            assert ours.maps[half] == pytest.approx(first.outside_fraction[half] * all_of_it.maps[half], rel=1e-6)
    assert to_step(step_to_datatree(job, first, None, {})).outside_fraction == first.outside_fraction
