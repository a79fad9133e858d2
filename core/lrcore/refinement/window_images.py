"""Cut the windows of images: the images without the density outside the mask, weighted, cropped, in 16 bits.

A window depends on the image, on the point about which it is cut, on its amplitude, and on what is the same for a whole
half set: the window, the noise spectra σ₀² of the start, and the density outside the mask. It does not depend on the
iteration, so that it is cut once and kept (`window_cache`). Later spectra σ² of the noise are applied to the window,

    W = W₀ σ₀² / σ²,  w = w₀ σ₀² / σ²

as functions of |k|, which are smooth, so that they commute with the crop.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.records import Particles
from lrcore.refinement.density_projector import DensityProjector
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.window import Window

AMPLITUDE_STEP = 0.1
"""Steps of log amplitude in which images are cut; the density outside is subtracted to within half a step."""


@dataclass(frozen=True)
class Cutting:
    """Parameters of the cut that all windows of a half set share.

    Attributes
    ----------
    window : to which images are cut
    noise : (groups, n // 2 + 1) σ₀² of the images, of the start
    shared : computes the two things that only a cut needs, see `CutInput`
    """

    window: Window
    noise: Float64
    shared: "CutInput"

    def at_samples(self, noise: Float64) -> Float64:
        """Return spectra of the box (groups, n // 2 + 1) at the samples of a window: (groups, S)."""
        return self.window.shells(noise)[:, self.window.samples.shell]


class CutInput:
    """Density outside the mask and typical SD of a valid image, made when the first image is cut.

    Parameters
    ----------
    make : returns the two
    """

    def __init__(self, make: Callable[[], tuple[tuple[DensityProjector, ...], float]]) -> None:
        self._make = make

    @cached_property
    def value(self) -> tuple[tuple[DensityProjector, ...], float]:
        """The density outside the mask, in parts, and the typical SD."""
        return self._make()

    def __reduce__(self) -> Any:
        """A worker gets the values."""
        return _made, self.value


def _made(outside: tuple[DensityProjector, ...], typical_sd: float) -> CutInput:
    """Return a CutInput that is made already."""
    return CutInput(lambda: (outside, typical_sd))


@dataclass(frozen=True)
class CutImages:
    """Windows of B images, in memory of the host.

    Attributes
    ----------
    codes : (B, S, 3) int16, see `lrcore.kernels.window_values`
    steps : (B, 2) of the codes
    bad : (B,) invalid images, whose windows are 0
    """

    codes: npt.NDArray[np.int16]
    steps: Float32
    bad: npt.NDArray[np.bool_]


def amplitude_of_cut(scale: Float64) -> Float64:
    """Return the amplitudes at which images are cut whose estimated amplitudes are `scale` (B,)."""
    return np.asarray(np.exp(AMPLITUDE_STEP * np.rint(np.log(scale) / AMPLITUDE_STEP)), np.float64)


def cut_images(
    particles: Particles, rows: Rows, points: Float64, amplitude: Float64, cutting: Cutting, backend: Backend
) -> Generator[int, None, CutImages]:
    """Read and cut images. Yields 0 after each batch of images that was read.

    Parameters
    ----------
    particles : all particles at their input poses, with their amplitudes apart from those of `amplitude`
    rows : (B,) of the images
    points : (B, 2) about which they are cut, pixels from the centre of the image
    amplitude : (B,) of each image
    cutting : of the half set
    backend : where the kernels run
    """
    scale = particles.scale.copy()
    scale[rows] *= amplitude
    particles, window = replace(particles, scale=scale), cutting.window
    outside, typical_sd = cutting.shared.value
    on_device = tuple(part.to_device(backend) for part in outside)
    samples, no_error = window.samples, np.zeros(window.box // 2 + 1)
    sigma = np.sqrt(cutting.at_samples(cutting.noise)).astype(np.float32)
    where = np.empty(len(particles), np.int64)
    where[rows] = np.arange(len(rows))

    def work(batch: Batch) -> CutImages:
        subtracted = subtract_outside_density(batch, on_device, particles, backend)
        group, own = particles.group[batch.rows], points[where[batch.rows]]
        W, w = backend.kernels.whiten_windows(
            subtracted.spectrum, subtracted.ctf, cutting.noise, group, no_error, own, samples
        )
        level = backend.to_device(sigma)[backend.to_device(group)]
        codes, steps = backend.kernels.pack_windows(W * level, w * level**2)
        return CutImages(backend.to_host(codes), backend.to_host(steps), batch.bad)

    parts: list[CutImages] = []
    for part in map_batches(particles, rows, backend, work, typical_sd):
        parts.append(part)
        yield 0
    return concatenate_cut_images(parts)


def concatenate_cut_images(parts: list[CutImages]) -> CutImages:
    """Concatenate windows."""
    return CutImages(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("codes", "steps", "bad")))


def windows_of(
    cut: CutImages, ratio: Float64, group: npt.NDArray[np.integer], noise: Float64, cutting: Cutting, backend: Backend
) -> tuple[Complex64, Float32]:
    """Return windows and their weights for the present noise, as `backproject_images` takes them.

    Parameters
    ----------
    cut : windows of B images
    ratio : (B,) present amplitude over that of the cut
    group : (B,) optics groups
    noise : (groups, n // 2 + 1) σ² of the present iteration
    cutting : of the half set
    backend : where the kernels run

    Returns
    -------
    data : (B, D, D // 2 + 1)
        C X / σ², in the units of `whiten_windows`.
    weight : (B, D, D // 2 + 1)
        C² / σ².
    """
    first, now = cutting.at_samples(cutting.noise), cutting.at_samples(noise)
    factors = np.stack([np.sqrt(first) / now, 1 / now], axis=1)
    steps = cut.steps * np.stack([ratio, ratio**2], axis=1)
    codes, group = backend.to_device(cut.codes), backend.to_device(group)
    data, weight = backend.kernels.unpack_windows(
        codes, backend.to_device(steps), factors, group, cutting.window.samples
    )
    return data, weight
