"""Subtraction in writing: what is taken away is the other body, as exact projections of its atoms show it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend, get_backend
from lrcore.errors import InputError
from lrcore.imaging.grids import ift
from lrcore.io import read_particles, read_volume
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import StackReader
from lrcore.particles.image_stream import batches, reading_order
from lrcore.records import HalfMaps, ImageSource, Particles, Step
from lrcore.refinement.density import density_to_subtract
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.refinement.subtraction import power_share_in_mask, subtracted_images, writing_order
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from lrcore.simulation.images import project
from lrcore.simulation.phantom import Phantom, SimulatedMotion

BFACTOR_A2 = 150.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    """At the true poses of body A."""
    return simulate_flexible_particle(
        tmp_path_factory.mktemp("made"), n=24, box=64, pixel_size_A=3.0, seed=2, snr=1.0, radius_a_A=30.0,
        radius_b_A=26.0, pose_error_deg=0.0, pose_error_A=0.0, hinge_sd_deg=3.0, noise="white", bfactor_A2=BFACTOR_A2,
    )  # fmt: skip


def begun(job: Job, backend: Backend) -> Step:
    return next(event for event in start(job, backend) if isinstance(event, Step))


def written(job: Job, first: Step, backend: Backend) -> np.ndarray:
    """Subtracted images in the order of the particles."""
    out = np.concatenate(list(subtracted_images(job, first, first, backend)))
    return out[np.argsort(writing_order(job.particles))]


def whole(particles: Particles) -> np.ndarray:
    with StackReader(replace(particles.images, sign=np.ones(len(particles), np.float32)), particles.box) as reader:
        return reader.read(np.arange(len(particles)))


def projected(made: FlexibleParticle, atoms: np.ndarray) -> np.ndarray:
    """Exact images of atoms at rest at the poses of body A."""
    n = len(made.particles)
    still = SimulatedMotion(np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(3))
    body = Phantom(atoms, np.zeros((0, 3)), np.zeros(3))
    spectra: Iterator[np.ndarray] = project(body, made.particles, made.poses_a, still, BFACTOR_A2)
    return made.gain * np.concatenate([ift(batch, made.particles.box, 2) for batch in spectra])


def job_of(made: FlexibleParticle, spec: RefineSpec | None = None) -> Job:
    truth = read_volume(made.map("gt_full"))
    particles = read_particles(made.star)
    return Job(particles, read_volume(made.map("mask_b")), spec or RefineSpec(), HalfMaps(truth, truth))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_the_other_body_is_taken_away(made: FlexibleParticle, name: str) -> None:
    """All of it but what reaches into the soft mask of body B, which hinges on it."""
    backend, job = get_backend(name), job_of(made)
    taken = whole(job.particles) - written(job, begun(job, backend), backend)
    mask = job.mask
    at = np.rint(made.phantom.body_a / mask.pixel_size_A).astype(int) + mask.box // 2
    outside = made.phantom.body_a[mask.data[at[:, 2], at[:, 1], at[:, 0]] < 0.02]
    assert len(outside) > 0.8 * len(made.phantom.body_a)
    body, rest = projected(made, made.phantom.body_a), projected(made, outside)
    assert np.corrcoef(taken.ravel(), body.ravel())[0, 1] > 0.95
    assert (taken * rest).sum() / (rest**2).sum() == pytest.approx(1, abs=0.12)
    mean = taken.mean(axis=(1, 2))
    assert np.abs(mean).max() < 1e-4  # nothing is known of the mean of an image


def test_images_of_inverted_contrast_stay_so(made: FlexibleParticle) -> None:
    backend, job = get_backend("cpu"), job_of(made)
    first = begun(job, backend)
    plain, signs = written(job, first, backend), np.where(np.arange(len(job.particles)) % 3, 1, -1).astype(np.float32)
    mixed = replace(job.particles, images=replace(job.particles.images, sign=signs))
    found = written(replace(job, particles=mixed), first, backend)
    assert np.allclose(found[signs > 0], plain[signs > 0], atol=1e-5)
    taken = whole(job.particles) - plain
    assert np.allclose(found[signs < 0], (whole(job.particles) + taken)[signs < 0], atol=1e-4)


def test_what_is_kept(made: FlexibleParticle) -> None:
    """Polarity: the mask of body B keeps about as much as its share of the atoms, its inverse the rest."""
    job = job_of(made)
    first = begun(job, get_backend("cpu"))
    kept = power_share_in_mask(first, job.mask)
    other = power_share_in_mask(first, replace(job.mask, data=1 - job.mask.data))
    atoms = len(made.phantom.body_b) / len(made.phantom.atoms)
    assert kept == pytest.approx(atoms, abs=0.1)
    assert kept + other == pytest.approx(1, abs=0.05)


def test_nothing_outside_is_nothing_to_subtract(made: FlexibleParticle) -> None:
    job = job_of(made)
    first = begun(job, get_backend("cpu"))
    everything = replace(job, mask=replace(job.mask, data=np.ones_like(job.mask.data)))
    with pytest.raises(InputError, match=r"mask_b\.mrc: there is nothing to subtract outside of it"):
        next(subtracted_images(everything, first, first, get_backend("cpu")))


@pytest.mark.parametrize("premultiplied", [False, True])
def test_written_images_are_read_as_what_is_left_on_the_fly(
    made: FlexibleParticle, premultiplied: bool, tmp_path: Path
) -> None:
    """With beam tilt and magnification that differ in x and y, and multiplied by the CTF or not."""
    backend, job = get_backend("cpu"), job_of(made)
    first = begun(job, backend)
    seen = replace(
        job.particles.optics[0], beam_tilt_mrad=(1.5, -0.8), mag_matrix=(1.02, 0.01, 0.01, 0.99),
        ctf_premultiplied=premultiplied,
    )  # fmt: skip
    particles = replace(job.particles, optics=(seen,))
    job = replace(job, particles=particles)
    images, stack = written(job, first, backend), tmp_path / "written.mrcs"
    write_image_stack(stack, len(particles), particles.box, particles.pixel_size_A, [images])
    n = len(particles)
    after = replace(particles, images=ImageSource((stack,), np.zeros(n, np.int32), np.arange(n), particles.images.sign))
    around = density_to_subtract(job, first, job.mask, 1)
    assert around is not None
    for half in (1, 2):
        rest, rows = around.projectors(half), reading_order(particles, half)
        (plain,), (found,) = batches(particles, rows, backend), batches(after, rows, backend)
        left = subtract_outside_density(plain, rest, particles, backend).spectrum
        # The background is fitted to each image as it is read; a plane lies on the axes of Fourier space.
        off_axes = (slice(None), slice(1, None), slice(1, None))
        difference, taken = np.abs(found.spectrum - left)[off_axes], np.abs(plain.spectrum - left)[off_axes]
        assert difference.max() < 1e-3 * taken.max()
