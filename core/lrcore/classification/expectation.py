"""E-step of a classification: likelihood of every class for each image, and the posterior over the classes.

With the window W, w of an image and the slice S_k of class k at the pose of the image,

    value_k = Σ [ −2 Re conj(W) S_k + w |S_k|² ]                    (−log p(X | k), up to a constant; 0 for no density)
    posterior_k ∝ share_k exp(−value_k / T)

T = 1 but in annealed iterations, where T is such that the posteriors have a given perplexity exp(mean entropy).
"""

from collections.abc import Generator, Sequence

import numpy as np

from lrcore.arrays import Float32, Float64, Rows
from lrcore.classification.images import ClassificationImages
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.refinement.reference import masked_window_ft
from lrcore.refinement.window_batch import run_window_batches

LARGEST_TEMPERATURE = 1e6


def samples_to_classify(images: ClassificationImages, resolution_A: float) -> FourierSamples:
    """Return the Fourier samples of the window up to a resolution.

    Parameters
    ----------
    images : that are classified
    resolution_A : finest resolution used to classify, Å
    """
    window = images.window
    finest = (window.size - 1) // 2 / images.magnification
    return half_plane(window.size, (min(max(window.size * window.pixel_size_A / resolution_A, 2.0), finest),))


def class_volumes(images: ClassificationImages, maps: Float32, samples: FourierSamples) -> list[FourierVolume]:
    """Return the FTs of masked class maps, on the device.

    Parameters
    ----------
    images : that are classified
    maps : (K, D, D, D)
    samples : up to which they are read
    """
    geometry, threads = images.window.geometry(images.geometry), images.backend.threads
    return [
        images.backend.volume_to_device(
            masked_window_ft(one, images.mask, geometry, samples, threads, images.magnification)
        )
        for one in maps
    ]


def class_values(
    images: ClassificationImages,
    volumes: Sequence[FourierVolume],
    samples: FourierSamples,
    rows: Rows,
    empty_class: bool = False,
) -> Generator[int, None, Float64]:
    """Evaluate −log p of images under every class. Yields the number of images of each batch.

    Parameters
    ----------
    images : of all particles
    volumes : of K classes
    samples : of the windows that count
    rows : (m,) of the images, of one half set
    empty_class : True to add the class without density

    Returns
    -------
    (m, K) float64, or (m, K + 1) with 0 in the last column for the empty class.
    """
    kernels, parts = images.backend.kernels, []
    no_error, lever = np.zeros(images.window.size // 2 + 1), np.zeros(3)

    def work(batch: Rows) -> Generator[int, None, None]:
        windows = yield from images.load(batch)
        rotation, shifts = windows.views(images.window)
        W, w = kernels.search_samples(windows.data, windows.weight, no_error, shifts, samples)
        still = np.zeros((len(batch), 1, 5))
        columns = [
            kernels.evaluate_likelihood(volume, W, w, samples, 0, rotation, still, lever)[:, 0] for volume in volumes
        ]
        parts.append(np.stack(columns, axis=1))

    yield from run_window_batches(rows, images.window, images.backend, work)
    found = np.concatenate(parts) if parts else np.zeros((0, len(volumes)))
    return np.column_stack([found, np.zeros(len(found))]) if empty_class else found


def posterior_of(values: Float64, shares: Float64, temperature: float = 1.0) -> tuple[Float64, Float64]:
    """Return the posterior over the classes (m, K), and the log-likelihood (m,) of each image relative to no density.

    Parameters
    ----------
    values : (m, K) of `class_values`
    shares : (K,) prior shares of the classes, which add up to 1
    temperature : T, by which the log-likelihoods are divided
    """
    with np.errstate(divide="ignore"):
        score = np.log(shares) - values / temperature
    top = score.max(axis=1, keepdims=True)
    weight = np.exp(score - top)
    total = weight.sum(axis=1, keepdims=True)
    return weight / total, (top + np.log(total))[:, 0]


def perplexity_of(posterior: Float64) -> float:
    """Return exp(mean entropy) of posteriors (m, K): from 1, all images in one class, to K."""
    entropy = -np.sum(posterior * np.log(np.maximum(posterior, 1e-300)), axis=1)
    return float(np.exp(entropy.mean()))


def temperature_for(values: Float64, shares: Float64, perplexity: float) -> float:
    """Return the temperature T ≥ 1 at which the posteriors have a perplexity; 1 where they are softer at T = 1.

    Parameters
    ----------
    values : (m, K) of `class_values`
    shares : (K,) prior shares of the classes
    perplexity : between 1 and K
    """
    low, high = 0.0, np.log(LARGEST_TEMPERATURE)
    if perplexity_of(posterior_of(values, shares)[0]) >= perplexity:
        return 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        below = perplexity_of(posterior_of(values, shares, float(np.exp(middle)))[0]) < perplexity
        low, high = (middle, high) if below else (low, middle)
    return float(np.exp(high))
