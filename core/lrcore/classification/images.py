"""Read the windows of images about the mask at the fixed poses of a step, as E-step and M-step take them."""

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Complex64, Float32, Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.body_maps import soft_cube
from lrcore.records import Fsc, Particles, Poses, Step, Volume
from lrcore.refinement.expectation import search_centres
from lrcore.refinement.geometry import SearchGeometry, search_geometry
from lrcore.refinement.iteration import RunInput
from lrcore.refinement.job import Job, with_signal_scale
from lrcore.refinement.noise import apply_noise_model
from lrcore.refinement.window import Window, continued_step, cut_points, held_density, window_of
from lrcore.refinement.window_cache import WindowCache, window_key
from lrcore.refinement.window_images import Cutting, amplitude_of_cut, windows_of


@dataclass(frozen=True)
class WindowsAtPoses:
    """Windows of B images at their poses, on the device of the backend.

    Attributes
    ----------
    data : (B, D, D // 2 + 1) C X / σ²
    weight : (B, D, D // 2 + 1) C² / σ²
    points : (B, 2) about which the windows were cut, pixels from the centre of the image
    poses : (B,) of the images
    magnification : (B, 3, 3) of `aberrations.magnification_in_3d`, or None
    """

    data: Complex64
    weight: Float32
    points: Float64
    poses: Poses
    magnification: Float64 | None

    def views(self, window: Window, operator: Float64 | None = None) -> tuple[Float64, Float64]:
        """Return rotations (B, 3, 3), with magnification, and where they show the middle of the window, (B, 2).

        The latter in pixels from the points of the cut. operator: (3, 3) of the symmetry, or None.
        """
        turned = self.poses.rotation if operator is None else self.poses.rotation @ operator
        seen = window.seen_at(turned, self.poses.origin_A, self.magnification)
        return magnified_rotation(turned, self.magnification), seen - self.points


@dataclass(frozen=True)
class ClassificationImages:
    """Images of a step with its poses, noise and mask.

    Attributes
    ----------
    job : input of the refinement, its particles with their amplitudes in force
    step : whose poses are used
    geometry : of the search
    window : about the mask
    mask : (D, D, D) in the window
    cutting : of the windows of half sets 1 and 2
    noise : (2, groups, n // 2 + 1) σ²
    fsc : corrected FSC of the step at the shells of the window
    coarse : (2, D, D, D), half maps of the start, of which the coarsest shells are taken
    held : (D, D, D), see `window.held_density`
    operators : (m, 3, 3) over which the maps are averaged
    magnification : largest factor by which the frequencies of the map exceed those of the images
    cache : keeps the windows
    backend : where the kernels run
    """

    job: Job
    step: Step
    geometry: SearchGeometry
    window: Window
    mask: Volume
    cutting: tuple[Cutting, Cutting]
    noise: Float64
    fsc: Fsc
    coarse: Float32
    held: Float32
    operators: Float64
    magnification: float
    cache: WindowCache
    backend: Backend

    @property
    def particles(self) -> Particles:
        """All particles."""
        return self.job.particles

    def load(self, rows: Rows) -> Generator[int, None, WindowsAtPoses]:
        """Return the windows of some images of one half set; yields 0 while images are read.

        Parameters
        ----------
        rows : (B,) of particles of the same half set
        """
        spec, particles, last = self.job.spec, self.particles, self.step.expectation
        half = int(particles.half[rows[0]]) - 1
        magnification, poses = magnification_in_3d(particles, rows), last.poses.select(rows)
        fulcrum_A = self.geometry.fulcrum * self.geometry.pixel_size_A
        centres = search_centres(particles.poses.select(rows), poses, spec, fulcrum_A, magnification)
        points = cut_points(self.geometry.centre_in(centres, magnification), spec)
        amplitude = last.scale[rows] if spec.per_particle_scale else np.ones(len(rows))
        if spec.per_particle_scale:
            particles = replace(particles, scale=particles.scale / last.scale)
        at_cut, cutting = amplitude_of_cut(amplitude), self.cutting[half]
        cut = yield from self.cache.fetch(particles, rows, points, at_cut, cutting, self.backend)
        group, ratio = particles.group[rows], amplitude / at_cut
        data, weight = windows_of(cut, ratio, group, self.noise[half], cutting, self.backend)
        return WindowsAtPoses(data, weight, points, poses, magnification)


def classification_images(job: Job, first: Step, last: Step, backend: Backend) -> ClassificationImages:
    """Return the images of a step for a classification.

    Slices are flat and the mask is that of the job, also where the refinement follows the Ewald sphere or moves the
    mask.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    last : step whose poses are used
    backend : where the kernels run, and where windows of the images are kept
    """
    run, step = RunInput(job, first, backend), continued_step(first, last)
    geometry = search_geometry(job.mask, job.spec)
    window = window_of(job.mask, job.spec, geometry, step)
    if window is None:
        x, y, z = (int(c) for c in geometry.centre)
        window = Window(geometry.box, geometry.window, (x, y, z), geometry.pixel_size_A)
    cache = run.cache or WindowCache()
    cache.prepare(window_key(job, first, window), len(job.particles), window)
    held = held_density(run.mask_of_copies, window, job.spec.subtract_outside)
    return ClassificationImages(
        replace(job, particles=with_signal_scale(job, last)),
        step,
        geometry,
        window,
        window.crop(job.mask),
        (Cutting(window, first.noise[0], run.cut_input(1)), Cutting(window, first.noise[1], run.cut_input(2))),
        apply_noise_model(last.noise, job.spec.noise_model),
        window.fsc_at_window(step.corrected),
        np.stack([window.crop(first.half_maps.half(half)).data * held * soft_cube(window.size) for half in (1, 2)]),
        held,
        run.operators,
        largest_magnification(job.particles),
        cache,
        backend,
    )
