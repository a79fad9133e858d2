"""Make step 0 of a run: half maps on the scale of the images, first noise spectra, initial low-pass."""

import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.compute.timing import peak_memory_MB
from lrcore.imaging.aberrations import largest_magnification
from lrcore.maps.fsc import fsc_curves
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.records import Expectation, HalfMaps, IterationSummary, Progress, Step, Volume
from lrcore.refinement.calibration import Calibration, calibrate, sample_rows
from lrcore.refinement.density import density_to_subtract
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.geometry import align_resolution_A, search_geometry
from lrcore.refinement.job import Job, check_job, with_signal_scale
from lrcore.refinement.noise import NoiseResiduals, _pooled_noise_spectrum, apply_noise_model, measure_residuals
from lrcore.refinement.reconstruction import reconstruct
from lrcore.refinement.reference import Reference, make_reference, reference_to_device


def start(job: Job, backend: Backend) -> Iterator[Progress | Step]:
    """Check the job and yield progress, then Step 0: half maps on the images' scale, noise, initial low-pass."""
    check_job(job)
    began = time.perf_counter()
    maps = job.half_maps
    if maps is None:
        volumes = []
        for half in (1, 2):
            for event in reconstruct(job.particles, half, job.spec.symmetry, backend, job.spec.ewald):
                if isinstance(event, Volume):
                    volumes.append(event)
                else:
                    yield event
        maps = HalfMaps(*volumes)
    for found in calibrate(job.particles, maps, job.mask, job.spec.seed, backend):
        if isinstance(found, Progress):
            yield found
        else:
            first = _first_step(job, found, backend)
    noise = yield from _first_noise(job, first, backend)
    (line,) = first.history
    line = replace(line, seconds={"start": time.perf_counter() - began}, memory_MB=peak_memory_MB())
    yield replace(first, noise=noise, history=(line,))


def _first_noise(job: Job, first: Step, backend: Backend) -> Generator[Progress, None, Float64]:
    """What the first search will see, measured as after every later one, but at the input poses."""
    particles, shape = with_signal_scale(job, first), search_geometry(job.mask, job.spec)
    around = density_to_subtract(job, first, job.mask, backend.threads)
    rows = [sample_rows(particles, half, job.spec.seed) for half in (1, 2)]
    spectra, done = [], 0
    for half, chosen in zip((1, 2), rows, strict=True):
        made = make_reference(
            first, around, half, job.mask, job.spec, shape, backend.threads, stretch=largest_magnification(particles)
        )
        reference = reference_to_device(made, backend)
        left: list[NoiseResiduals] = []

        def work(batch: Batch, reference: Reference = reference) -> tuple[int, NoiseResiduals]:
            rest, given = (
                subtract_outside_density(batch, reference.outside, particles, backend),
                particles.poses.select(batch.rows),
            )
            all_of_them = np.ones(len(given), np.bool_)
            return len(given), measure_residuals(rest, all_of_them, particles, given, reference, shape, backend)

        for count, one in map_batches(particles, chosen, backend, work):
            left.append(one)
            done += count
            yield Progress(0, "noise", done, len(rows[0]) + len(rows[1]))
        spectra.append(_pooled_noise_spectrum(left, particles))
    return apply_noise_model(np.stack(spectra), job.spec.noise_model)


def _first_step(job: Job, found: Calibration, backend: Backend) -> Step:
    """Step 0 of half maps on the images' scale, but for its noise and time."""
    maps = found.half_maps
    fsc = fsc_curves(maps.first, maps.second, job.mask, job.spec.seed, backend.threads, part=True)
    lowpass = job.spec.initial_lowpass_A or fsc["corrected"].resolution_A(0.5) + 1.0
    expectation = Expectation.before_search(job.particles.poses)
    align = align_resolution_A(fsc["corrected"], job.spec, lowpass)
    masked, corrected = fsc["masked"].resolution_A(), fsc["corrected"].resolution_A()
    line = IterationSummary(0, masked, corrected, align, 0, 0, 0, 0, 0, 0, 0, {}, {}, 0.0)
    noise = np.ones((2, len(job.particles.optics), job.mask.box // 2 + 1))
    return Step(0, expectation, maps, fsc, noise, lowpass, (line,), intensity=found.intensity)
