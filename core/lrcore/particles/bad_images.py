"""Images that are none: what is wrong with an image's pixels, and the sentence that names such images.

An image of NaN or infinite pixels, of one value, or of an amplitude that no image of its data set has says nothing
about the particle. It weighs nothing anywhere, keeps its pose, and is flagged (decision 045).
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Rows
from lrcore.io.derived_particles import rows_in_table
from lrcore.io.image_stacks import StackReader
from lrcore.records import FLAG_BAD_IMAGE, Particles

VALID, NOT_FINITE, CONSTANT, IMPLAUSIBLE = 0, 1, 2, 3
REASONS = {NOT_FINITE: "NaN or infinite pixels", CONSTANT: "constant", IMPLAUSIBLE: "amplitude absurd"}

MAX_SD_RATIO = 100.0
"""An image whose SD is so many times larger or smaller than is usual is broken: no two particles differ like that."""
SD_SAMPLE = 32
"""Images by which it is known what is usual."""
MIN_SD_SAMPLE = 8
"""With fewer sound images than so many, nothing is usual."""
MAX_LISTED = 5
"""Images that a sentence names, at most."""


def typical_sd(reader: StackReader, rows: Rows) -> float:
    """Median SD of up to TRIED of these images, evenly spread over the rows; NaN where too few of them are images."""
    images, finite = reader.read_with_finite_flags(rows[:: max(1, -(-len(rows) // SD_SAMPLE))])
    spread = _pixel_sd(images[finite])
    spread = spread[spread > 0]
    return float(np.median(spread)) if len(spread) >= MIN_SD_SAMPLE else float("nan")


def find_defects(images: Float32, finite: npt.NDArray[np.bool_], usual: float) -> npt.NDArray[np.uint8]:
    """What is wrong with each of the images (B, n, n), SOUND or a key of WORDS: (B,).

    finite: (B,) as `StackReader.look` tells. usual: SD of an image, NaN if it is not known.
    """
    found = np.where(finite, VALID, NOT_FINITE).astype(np.uint8)
    found[finite & is_constant(images)] = CONSTANT
    if np.isfinite(usual):
        spread = _pixel_sd(images)
        absurd = ~((spread > usual / MAX_SD_RATIO) & (spread < usual * MAX_SD_RATIO))
        found[absurd & (found == VALID)] = IMPLAUSIBLE
    return found


def is_constant(images: Float32) -> npt.NDArray[np.bool_]:
    """Which images (B, n, n) are constant: (B,). Only those whose first row is are looked at as a whole."""
    bad: npt.NDArray[np.bool_] = np.ptp(images[:, 0], axis=1) == 0
    for i in np.nonzero(bad)[0]:
        bad[i] = np.ptp(images[i]) == 0
    return bad


def _pixel_sd(images: Float32) -> npt.NDArray[np.float64]:
    """(B,) SD of the pixels; infinite where their squares are."""
    count = images.shape[1] * images.shape[2]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.einsum("bij->b", images).astype(np.float64) / count
        squares = np.einsum("bij,bij->b", images, images).astype(np.float64) / count
        variance = squares - mean**2
        # Where the mean is all, what is left of it is rounding: those few are looked at again.
        for i in np.nonzero(variance < 1e-3 * squares)[0]:
            variance[i] = np.var(images[i], dtype=np.float64)
        return np.sqrt(np.where(np.isnan(variance), np.inf, np.maximum(variance, 0.0)))


def bad_image_message(particles: Particles, skipped: Rows) -> str:
    """The sentence on these rows, whose images are none: how many, and the first of them by row, file and reason."""
    images = particles.images
    with StackReader(images, particles.box) as reader:
        usual = typical_sd(reader, np.setdiff1d(np.arange(len(particles)), skipped))
        first = skipped[:MAX_LISTED]
        why = find_defects(*reader.read_with_finite_flags(first), usual)
    rows = rows_in_table(particles)
    names = [
        f"row {rows[row] + 1} (image {images.index[row] + 1} of {images.stacks[images.stack[row]].name}: "
        f"{REASONS.get(int(code), 'amplitude absurd')})"
        for row, code in zip(first, why, strict=True)
    ]
    more = f" and {len(skipped) - MAX_LISTED} more" if len(skipped) > MAX_LISTED else ""
    verb = "1 image is" if len(skipped) == 1 else f"{len(skipped)} images are"
    return (
        f"{particles.path}: {verb} skipped, which weigh nothing and keep their poses: {', '.join(names)}{more}: "
        "take them out of the table, or copy the stack again"
    )


def warn_bad_images(particles: Particles, skipped: Rows | npt.NDArray[np.bool_] | Sequence[int]) -> None:
    """Warn of the images that are skipped, by row or as a mask; nothing for none."""
    chosen = np.asarray(skipped)
    rows = np.nonzero(chosen)[0] if chosen.dtype == np.bool_ else chosen
    if len(rows):
        warnings.warn(bad_image_message(particles, rows), stacklevel=2)


def bad_image_mask(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(n,) which particles' images were none, by the flags of an expectation."""
    return (flags & FLAG_BAD_IMAGE) > 0
