"""M-step of a classification: sums of the images of every class, and the references that follow from them.

Images are inserted as in `refinement.reconstruction`, each into every class with its posterior p as weight. With N_k,
D_k the sums of class k, N, D those of all classes, and M = N / (D + ρ' mean D) the map of all classes,

    F_k = (N_k + λ M) / (D_k + λ),  λ = ρ' mean D / VARIANCE_SHARE

is the most probable map if F_k is normal about M, with a variance of VARIANCE_SHARE of the power of M in its shell. ρ'
is that of the FSC of the step, for the number of images at hand. A class of few images is so close to the map of all,
and its amplitude does not depend on its size.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float32, Float64, Rows
from lrcore.classification.images import ClassificationImages
from lrcore.imaging.fourier_volume import (
    FourierVolume,
    fourier_volume_shape,
    fourier_volume_to_map,
    make_hermitian,
    squared_radii,
)
from lrcore.records import Volume
from lrcore.refinement.reconstruction import (
    Accumulator,
    accumulator_to_host,
    insert_slices,
    mean_of_neighbours,
    of_shells,
    regularisation_from_fsc,
    shell_means,
    shells_of_radii,
)
from lrcore.refinement.window import LEAST_SHARE, with_coarse_shells
from lrcore.refinement.window_batch import run_window_batches

VARIANCE_SHARE = 0.25
"""Variance of a class about the map of all classes, as a share of the power of that map."""
LEAST_POSTERIOR = 1e-4
"""Posterior below which an image is not inserted into a class."""


def class_sums(
    images: ClassificationImages, posterior: Float64, rows: Rows, limit: int
) -> Generator[int, None, list[Accumulator]]:
    """Sum images for every class. Yields the number of images of each batch.

    Parameters
    ----------
    images : of all particles
    posterior : (m, K) weights of the images in the classes
    rows : (m,) of the images, of one half set
    limit : last shell of the window that is summed

    Returns
    -------
    K sums, in the memory of the host.
    """
    backend, window = images.backend, images.window
    reach = int(np.ceil(limit * images.magnification))
    shape = fourier_volume_shape(reach)
    sums = [
        Accumulator(backend.zeros(shape, np.complex64), backend.zeros(shape, np.float32), window.size, reach)
        for _ in range(posterior.shape[1])
    ]
    done = 0

    def work(batch: Rows) -> Generator[int, None, None]:
        nonlocal done
        windows = yield from images.load(batch)
        share = posterior[done : done + len(batch)].astype(np.float32)
        for operator in images.operators:
            rotation, shifts = windows.views(window, operator)
            for number, own in enumerate(sums):
                image = np.nonzero(share[:, number] >= LEAST_POSTERIOR)[0]
                if len(image):
                    slices = (rotation[image], -shifts[image], image, share[image, number], None)
                    insert_slices(own, slices, windows.data, windows.weight, backend, limit)
        done += len(batch)

    yield from run_window_batches(rows, window, backend, work)
    return [accumulator_to_host(own, backend) for own in sums]


def add_sums(parts: Sequence[Accumulator]) -> Accumulator:
    """Return the sum of accumulators, as new arrays."""
    numerator = np.sum([part.numerator for part in parts], axis=0)
    return replace(parts[0], numerator=numerator, denominator=np.sum([part.denominator for part in parts], axis=0))


@dataclass(frozen=True)
class _Shells:
    """Values of the shells (s,) of a Fourier volume on its samples."""

    index: np.ndarray
    squares: np.ndarray

    def __call__(self, values: Float64) -> Float32:
        return values.astype(np.float32)[self.index][self.squares]


def class_maps(images: ClassificationImages, sums: Sequence[Accumulator], all_images: int, summed: int) -> Float32:
    """Return the references of the classes, unmasked: (K, D, D, D).

    Parameters
    ----------
    images : of all particles
    sums : of K classes; they stay as they are
    all_images : number of particles to which the FSC of the step belongs, of both half sets
    summed : number of particles in the sums
    """
    sums = [add_sums([own]) for own in sums]
    for own in sums:
        make_hermitian(own.numerator)
        make_hermitian(own.denominator)
    together, limit = add_sums(sums), sums[0].limit
    index = shells_of_radii(limit)
    at = _Shells(index, np.stack(list(squared_radii(limit))))
    mean = shell_means(together.denominator, index, limit)
    least = of_shells(LEAST_SHARE, len(mean)) * mean_of_neighbours(np.maximum(mean, 0.0))
    rho = of_shells(regularisation_from_fsc(images.fsc.value), len(mean)) * (0.5 * all_images / max(summed, 1))
    known = np.arange(len(mean)) <= limit
    floor = np.where(known, np.maximum(rho * np.maximum(mean, least), 1e-30), 1.0)
    ridge, keep = at(floor), at(known.astype(np.float64))
    whole = keep * together.numerator / (np.maximum(together.denominator, at(least)) + ridge)
    prior = ridge / np.float32(VARIANCE_SHARE)
    spectra = [keep * (own.numerator + prior * whole) / (np.maximum(own.denominator, 0) + prior) for own in sums]
    threads, size = images.backend.threads, images.window.size
    maps = [fourier_volume_to_map(FourierVolume(part, size, limit), threads) for part in spectra]
    return np.stack([with_start(images, one, images.coarse.mean(axis=0)) for one in maps])


def with_start(images: ClassificationImages, one: Float32, start: Float32) -> Float32:
    """Return a map (D, D, D) with the coarsest shells of that of the start, see `window.with_coarse_shells`."""
    apix = images.window.pixel_size_A
    return with_coarse_shells(Volume(one, apix), Volume(start, apix), images.backend.threads).data
