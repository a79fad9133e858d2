"""Detect invalid images, and report them.

An image with NaN or infinite pixels, of constant value, or of an implausible amplitude has no information about the
particle. It gets weight 0 everywhere, keeps its pose, and is flagged (decision 045).
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Rows
from lrcore.io.derived_particles import rows_in_table
from lrcore.io.image_stacks import StackReader
from lrcore.particles.subsets import spread_rows
from lrcore.records import FLAG_BAD_IMAGE, Particles

VALID, NOT_FINITE, CONSTANT, IMPLAUSIBLE = 0, 1, 2, 3
REASONS = {NOT_FINITE: "NaN or infinite pixels", CONSTANT: "constant", IMPLAUSIBLE: "implausible amplitude"}

MAX_SD_RATIO = 100.0
"""An image whose SD differs from the typical one by more than this factor is invalid."""
SD_SAMPLE = 32
"""Images from which the typical SD is estimated, at most."""
MIN_SD_SAMPLE = 8
"""With fewer valid images than this, no typical SD is estimated."""
MAX_LISTED = 5
"""Images that a message lists, at most."""


def typical_sd(reader: StackReader, rows: Rows) -> float:
    """Estimate the typical SD of images: the median over up to SD_SAMPLE of them, evenly spaced in the rows.

    Parameters
    ----------
    reader : reader of the images
    rows : (n,) rows of the images

    Returns
    -------
    float
        SD in the units of the images; NaN if fewer than MIN_SD_SAMPLE of them are valid.

    Raises
    ------
    InputError
        If a stack cannot be read.
    """
    images, finite = reader.read_with_finite_flags(spread_rows(rows, SD_SAMPLE))
    sd = _pixel_sd(images[finite])
    sd = sd[sd > 0]
    return float(np.median(sd)) if len(sd) >= MIN_SD_SAMPLE else float("nan")


def find_defects(images: Float32, finite: npt.NDArray[np.bool_], usual_sd: float) -> npt.NDArray[np.uint8]:
    """Classify the images (B, n, n): VALID or a key of REASONS, (B,).

    finite: (B,) of `StackReader.read_with_finite_flags`. usual_sd: typical SD of an image, NaN if it is not known.
    """
    defects = np.where(finite, VALID, NOT_FINITE).astype(np.uint8)
    defects[finite & is_constant(images)] = CONSTANT
    if np.isfinite(usual_sd):
        sd = _pixel_sd(images)
        implausible = ~((sd > usual_sd / MAX_SD_RATIO) & (sd < usual_sd * MAX_SD_RATIO))
        defects[implausible & (defects == VALID)] = IMPLAUSIBLE
    return defects


def is_constant(images: Float32) -> npt.NDArray[np.bool_]:
    """Return (B,) which images (B, n, n) are constant; an image is tested in full only if its first row is constant."""
    bad: npt.NDArray[np.bool_] = np.ptp(images[:, 0], axis=1) == 0
    for i in np.nonzero(bad)[0]:
        bad[i] = np.ptp(images[i]) == 0
    return bad


def _pixel_sd(images: Float32) -> npt.NDArray[np.float64]:
    """Compute the SD (B,) of the pixels; infinite where their squares overflow."""
    count = images.shape[1] * images.shape[2]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.einsum("bij->b", images).astype(np.float64) / count
        squares = np.einsum("bij,bij->b", images, images).astype(np.float64) / count
        variance = squares - mean**2
        # Where the mean dominates, the difference is rounding error: compute these few again in two passes.
        for i in np.nonzero(variance < 1e-3 * squares)[0]:
            variance[i] = np.var(images[i], dtype=np.float64)
        return np.sqrt(np.where(np.isnan(variance), np.inf, np.maximum(variance, 0.0)))


def bad_image_message(particles: Particles, skipped: Rows) -> str:
    """Format the message on rows with invalid images: how many, and the first of them by row, file and reason."""
    images = particles.images
    with StackReader(images, particles.box) as reader:
        usual_sd = typical_sd(reader, np.setdiff1d(np.arange(len(particles)), skipped))
        first = skipped[:MAX_LISTED]
        defects = find_defects(*reader.read_with_finite_flags(first), usual_sd)
    rows = rows_in_table(particles)
    names = [
        f"row {rows[row] + 1} (image {images.index[row] + 1} of {images.stacks[images.stack[row]].name}: "
        f"{REASONS.get(int(code), 'implausible amplitude')})"
        for row, code in zip(first, defects, strict=True)
    ]
    more = f" and {len(skipped) - MAX_LISTED} more" if len(skipped) > MAX_LISTED else ""
    count = "1 invalid image" if len(skipped) == 1 else f"{len(skipped)} invalid images"
    return (
        f"{particles.path}: {count} skipped (weight 0, poses kept): {', '.join(names)}{more}: "
        "remove them from the particle table, or copy the stack again"
    )


def warn_bad_images(particles: Particles, skipped: Rows | npt.NDArray[np.bool_] | Sequence[int]) -> None:
    """Warn about invalid images that are skipped, if there are any.

    Parameters
    ----------
    particles : n particles
    skipped : rows, or (n,) mask, of the invalid images
    """
    chosen = np.asarray(skipped)
    rows = np.nonzero(chosen)[0] if chosen.dtype == np.bool_ else chosen
    if len(rows):
        warnings.warn(bad_image_message(particles, rows), stacklevel=2)


def bad_image_mask(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which images were invalid, from the flags of an expectation.

    Parameters
    ----------
    flags : (n,) bits of FLAG_NAMES

    Returns
    -------
    (n,) bool
    """
    return (flags & FLAG_BAD_IMAGE) > 0
