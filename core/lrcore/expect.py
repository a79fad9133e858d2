"""The E-step of one batch: subtract what lies outside the mask, weigh, cut the window, search."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.backend import Backend
from lrcore.clock import Clock
from lrcore.grids import Float32, half_plane, shell_index
from lrcore.images import Batch, model_images, subtract_model, windowed
from lrcore.records import Expectation, Particles, Poses, Step
from lrcore.reference import Geometry, Reference
from lrcore.search import search
from lrcore.spec import RefineSpec

Float64 = npt.NDArray[np.float64]


def expect(
    particles: Particles,
    spec: RefineSpec,
    rest: Batch,
    reference: Reference,
    shape: Geometry,
    last: Step,
    backend: Backend,
    clock: Clock,
) -> Expectation:
    """The E-step of a batch of one half set that holds no more of what lies outside the mask."""
    given, before = particles.poses.select(rest.rows), last.expectation.poses.select(rest.rows)
    centres = Poses(
        before.rotation if spec.recenter_rotations else given.rotation,
        before.origin_A if spec.recenter_shifts else given.origin_A,
    )
    with clock("window"):
        noise = last.noise[int(particles.half[rest.rows[0]]) - 1]
        weights = inverse_variance(rest, particles, noise, reference.variance)
        W, w = windowed(rest, weights, shape.centre_in(centres), reference.frame.samples, backend.threads)
    with clock("search"):
        return search(W, w, reference.frame, centres, before, given, rest.bad, backend)


def subtracted(batch: Batch, reference: Reference, particles: Particles, backend: Backend) -> Batch:
    """The batch without what lies outside the mask, as seen from the input poses."""
    if reference.outside is None:
        return batch
    samples = half_plane(particles.box, (float(reference.outside.limit),))
    given = particles.poses.select(batch.rows)
    model = model_images(reference.outside, given, samples, particles.pixel_size_A, backend)
    spectrum = batch.spectrum.copy()
    subtract_model(spectrum, batch.ctf, model, samples)
    return replace(batch, spectrum=spectrum)


def inverse_variance(
    batch: Batch, particles: Particles, noise: Float64, reference_variance: Float64 | None = None
) -> Float32:
    """1 / (σ² + C² var_ref) of every Fourier coefficient: (B, n, n // 2 + 1). noise: (groups, shells)."""
    shells = np.minimum(shell_index(particles.box, 2), noise.shape[1] - 1)
    sigma: Float32 = noise.astype(np.float32)[:, shells][particles.group[batch.rows]]
    if reference_variance is not None:
        sigma += batch.ctf**2 * reference_variance.astype(np.float32)[shells]
    return np.reciprocal(sigma)
