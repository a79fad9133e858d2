"""Images that are none: what is wrong with an image's pixels, and the sentence that names such images.

An image of NaN or infinite pixels, of one value, or of an amplitude that no image of its data set has says nothing
about the particle. It weighs nothing anywhere, keeps its pose, and is flagged (decision 045).
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lrcore.grids import Float32
from lrcore.io.derive import rows_in_table
from lrcore.io.stack import StackReader
from lrcore.records import FLAG_BAD_IMAGE, Particles

Rows = npt.NDArray[np.int64]

SOUND, NOT_FINITE, CONSTANT, ABSURD = 0, 1, 2, 3
WORDS = {NOT_FINITE: "NaN or infinite pixels", CONSTANT: "constant", ABSURD: "amplitude absurd"}

FARTHEST = 100.0
"""An image whose SD is so many times larger or smaller than is usual is broken: no two particles differ like that."""
TRIED = 32
"""Images by which it is known what is usual."""
FEWEST = 8
"""With fewer sound images than so many, nothing is usual."""
NAMED = 5
"""Images that a sentence names, at most."""


def usual_sd(reader: StackReader, rows: Rows) -> float:
    """Median SD of up to TRIED of these images, evenly spread over the rows; NaN where too few of them are images."""
    images, finite = reader.look(rows[:: max(1, -(-len(rows) // TRIED))])
    spread = _sd(images[finite])
    spread = spread[spread > 0]
    return float(np.median(spread)) if len(spread) >= FEWEST else float("nan")


def defects(images: Float32, finite: npt.NDArray[np.bool_], usual: float) -> npt.NDArray[np.uint8]:
    """What is wrong with each of the images (B, n, n), SOUND or a key of WORDS: (B,).

    finite: (B,) as `StackReader.look` tells. usual: SD of an image, NaN if it is not known.
    """
    found = np.where(finite, SOUND, NOT_FINITE).astype(np.uint8)
    found[finite & flat(images)] = CONSTANT
    if np.isfinite(usual):
        spread = _sd(images)
        absurd = ~((spread > usual / FARTHEST) & (spread < usual * FARTHEST))
        found[absurd & (found == SOUND)] = ABSURD
    return found


def flat(images: Float32) -> npt.NDArray[np.bool_]:
    """Which images (B, n, n) are constant: (B,). Only those whose first row is are looked at as a whole."""
    bad: npt.NDArray[np.bool_] = np.ptp(images[:, 0], axis=1) == 0
    for i in np.nonzero(bad)[0]:
        bad[i] = np.ptp(images[i]) == 0
    return bad


def _sd(images: Float32) -> npt.NDArray[np.float64]:
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


def told(particles: Particles, skipped: Rows) -> str:
    """The sentence on these rows, whose images are none: how many, and the first of them by row, file and reason."""
    images = particles.images
    with StackReader(images, particles.box) as reader:
        usual = usual_sd(reader, np.setdiff1d(np.arange(len(particles)), skipped))
        first = skipped[:NAMED]
        why = defects(*reader.look(first), usual)
    rows = rows_in_table(particles)
    names = [
        f"row {rows[row] + 1} (image {images.index[row] + 1} of {images.stacks[images.stack[row]].name}: "
        f"{WORDS.get(int(code), 'amplitude absurd')})"
        for row, code in zip(first, why, strict=True)
    ]
    more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
    verb = "1 image is" if len(skipped) == 1 else f"{len(skipped)} images are"
    return (
        f"{particles.path}: {verb} skipped, which weigh nothing and keep their poses: {', '.join(names)}{more}: "
        "take them out of the table, or copy the stack again"
    )


def tell(particles: Particles, skipped: Rows | npt.NDArray[np.bool_] | Sequence[int]) -> None:
    """Warn of the images that are skipped, by row or as a mask; nothing for none."""
    chosen = np.asarray(skipped)
    rows = np.nonzero(chosen)[0] if chosen.dtype == np.bool_ else chosen
    if len(rows):
        warnings.warn(told(particles, rows), stacklevel=2)


def skipped(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(n,) which particles' images were none, by the flags of an expectation."""
    return (flags & FLAG_BAD_IMAGE) > 0
