"""Make step 0 of a run: half maps on the scale of the images, initial noise spectra, initial low-pass.

Step 0 is made in five parts: check the job, reconstruct half maps from the input poses where none are given, test the
contrast of these or the order of the given ones, calibrate the half maps (`calibration`), and measure the noise as
after every later iteration (`noise`), but at the input poses.
"""

import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.compute.timing import peak_memory_MB
from lrcore.imaging.aberrations import largest_magnification
from lrcore.maps.fsc import fsc_curves, wiener_gain
from lrcore.maps.half_map_checks import contrast_warning
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.maps.solvent_mask import coarse_mean_of_spectra
from lrcore.particles.background import warn_background
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.records import Expectation, Fsc, HalfMaps, IterationSummary, Progress, Step, Volume
from lrcore.refinement.calibration import Calibration, calibrate, sample_rows
from lrcore.refinement.density import density_to_subtract, symmetry_of_mask
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.geometry import align_resolution_A, search_geometry
from lrcore.refinement.half_map_order import half_map_order_warning
from lrcore.refinement.job import Job, check_job, warn_subtracted, with_signal_scale
from lrcore.refinement.noise import NoiseResiduals, measure_residuals, pooled_noise_spectrum
from lrcore.refinement.reconstruction import reconstruct
from lrcore.refinement.reference import Reference, make_reference, reference_to_device


def start(job: Job, backend: Backend) -> Iterator[Progress | Step]:
    """Check the job and make step 0 of a run.

    Parameters
    ----------
    job : input of the refinement
    backend : where the kernels run

    Yields
    ------
    Progress or Step
        `Progress` while images are read (stages "reconstruct", "start", "noise"), then step 0: half maps on the scale
        of the images, FSC curves, noise (2, groups, shells), and the low-pass of the first reference in Å.

    Raises
    ------
    InputError
        When the parts of the job do not fit each other (`check_job`), an image cannot be read, images and map have
        opposite contrast, or no image of a half set is valid.
    """
    check_job(job)
    began = time.perf_counter()
    warn_background(job.particles)
    symmetry = job.spec.symmetry
    if job.particles.subtracted:  # the images show no copies beside the mask
        symmetry = symmetry_of_mask(job.mask, symmetry)
    maps = job.half_maps or (yield from _half_maps_at_input_poses(job, symmetry, backend))
    spectra = HalfMapSpectra.from_maps(maps, backend.threads)
    _warn_half_maps(job, maps, spectra, backend)
    fsc, calibration = yield from _calibrate(job, maps, spectra, backend)
    if job.half_maps is None and max(calibration.outside_fraction) == 0:
        own_symmetry = symmetry_of_mask(job.mask, symmetry)
        if own_symmetry != symmetry:
            maps = yield from _half_maps_at_input_poses(job, own_symmetry, backend)
            spectra = HalfMapSpectra.from_maps(maps, backend.threads)
            fsc, calibration = yield from _calibrate(job, maps, spectra, backend)
    warn_subtracted(job, calibration.outside_fraction)
    spectra = spectra.scaled(calibration.scale)
    first = _first_step(job, _scaled_maps(maps, spectra, backend.threads), fsc, calibration)
    noise = yield from _first_noise(job, first, spectra, backend)
    (summary,) = first.history
    summary = replace(summary, seconds={"start": time.perf_counter() - began}, memory_MB=peak_memory_MB())
    yield replace(first, noise=noise, history=(summary,))


def _half_maps_at_input_poses(job: Job, symmetry: str, backend: Backend) -> Generator[Progress, None, HalfMaps]:
    """Reconstruct the half maps that a job comes without, averaged over a symmetry. Yields progress."""
    volumes: list[Volume] = []
    for half in (1, 2):
        for event in reconstruct(job.particles, half, symmetry, backend, job.spec.ewald):
            if isinstance(event, Volume):
                volumes.append(event)
            else:
                yield event
    return HalfMaps(*volumes)


def _warn_half_maps(job: Job, maps: HalfMaps, spectra: HalfMapSpectra, backend: Backend) -> None:
    """Warn of given half maps in the wrong order, or of reconstructed ones of inverted contrast."""
    if job.half_maps is not None:
        fault = half_map_order_warning(job.particles, maps, spectra, backend)
    else:
        fault = contrast_warning(coarse_mean_of_spectra(spectra, maps.first.pixel_size_A, backend.threads))
        fault = fault and f"{job.particles.path}: {fault}"
    if fault:
        warnings.warn(fault, stacklevel=2)


def _calibrate(
    job: Job, maps: HalfMaps, spectra: HalfMapSpectra, backend: Backend
) -> Generator[Progress, None, tuple[dict[str, Fsc], Calibration]]:
    """Compute the FSC curves of half maps, and the scale that brings them to that of the images. Yields progress."""
    fsc = fsc_curves(maps.first, maps.second, job.mask, workers=backend.threads, part=True, spectra=spectra)
    finest = int(np.count_nonzero(wiener_gain(fsc["tight"].value)))
    for event in calibrate(job.particles, spectra, job.mask, job.spec.seed, backend, finest):
        if isinstance(event, Calibration):
            return fsc, event
        yield event
    raise AssertionError("calibrate ends with a Calibration")


def _scaled_maps(maps: HalfMaps, spectra: HalfMapSpectra, workers: int) -> HalfMaps:
    """Return half maps with the data of other FTs."""
    volumes = (maps.first, maps.second)
    return HalfMaps(*(replace(v, data=data) for v, data in zip(volumes, spectra.to_maps(workers), strict=True)))


def _first_noise(
    job: Job, first: Step, spectra: HalfMapSpectra, backend: Backend
) -> Generator[Progress, None, Float64]:
    """Measure the noise (2, groups, shells) of the first search, from a sample of images at their input poses.

    spectra: FTs of the half maps of step 0.
    """
    particles, geometry = with_signal_scale(job, first), search_geometry(job.mask, job.spec)
    outside = density_to_subtract(job, first, job.mask, backend.threads, spectra)
    rows = [sample_rows(particles, half, job.spec.seed) for half in (1, 2)]
    noise, done = [], 0
    for half, sampled in zip((1, 2), rows, strict=True):
        on_host = make_reference(
            first,
            outside,
            half,
            job.mask,
            job.spec,
            geometry,
            backend.threads,
            magnification=largest_magnification(particles),
            spectrum=spectra.half(half),
        )
        reference = reference_to_device(on_host, backend)
        residuals: list[NoiseResiduals] = []

        def work(batch: Batch, reference: Reference = reference) -> tuple[int, NoiseResiduals]:
            subtracted = subtract_outside_density(batch, reference.outside, particles, backend)
            found = Expectation.before_search(particles.poses.select(batch.rows))
            every_image = np.ones(len(batch.rows), np.bool_)
            return len(batch.rows), measure_residuals(
                subtracted, every_image, particles, found, reference, geometry, backend
            )

        for count, batch_residuals in map_batches(particles, sampled, backend, work):
            residuals.append(batch_residuals)
            done += count
            yield Progress(0, "noise", done, len(rows[0]) + len(rows[1]))
        noise.append(pooled_noise_spectrum(residuals, particles))
    return np.stack(noise)


def _first_step(job: Job, maps: HalfMaps, fsc: dict[str, Fsc], calibration: Calibration) -> Step:
    """Return step 0 for calibrated half maps, with a placeholder for the noise and without the time spent.

    The initial low-pass is `initial_lowpass_A`, or the resolution at corrected FSC 0.5 plus 1 Å.
    """
    lowpass = job.spec.initial_lowpass_A or fsc["corrected"].resolution_A(0.5) + 1.0
    expectation = Expectation.before_search(job.particles.poses)
    align = align_resolution_A(fsc["corrected"], job.spec, lowpass)
    masked, corrected = fsc["masked"].resolution_A(), fsc["corrected"].resolution_A()
    summary = IterationSummary(0, masked, corrected, align, 0, 0, 0, 0, 0, 0, 0, {}, {}, 0.0)
    noise = np.ones((2, len(job.particles.optics), job.mask.box // 2 + 1))
    return Step(
        0, expectation, maps, fsc, noise, lowpass, (summary,), intensity=calibration.intensity,
        outside_fraction=calibration.outside_fraction,
    )  # fmt: skip
