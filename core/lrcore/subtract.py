"""Subtraction in writing: images without what lies outside a mask, as a refinement subtracts it on the fly, and back.

The mask says what is *kept*. From an image X of half set h, at its input pose,

    X' = X − C · slice of (1 − mask) · F(map of h)

with the half map on the scale of the images and F a filter by the FSC outside (`reference.surroundings`). The half
sets share nothing but that FSC. The mean of an image, and what the FSC does not vouch for, stay.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lrcore.backend import Backend
from lrcore.errors import InputError
from lrcore.expect import subtracted
from lrcore.fourier import FourierVolume, from_map
from lrcore.framing import POINT
from lrcore.grids import Float32, ift
from lrcore.images import Batch, as_stored, reading_order, worked
from lrcore.io.derive import number_column, text_column
from lrcore.io.reframe import (
    ORIGINAL_NAME,
    SUBTRACTED,
    SUBTRACTED_FRAMED,
    image_names,
    images_named,
    names_in_table,
    with_images,
)
from lrcore.io.stack import StackReader
from lrcore.io.star_table import StarSource
from lrcore.masks import inscribed_sphere
from lrcore.records import Images, Particles, Step, Volume
from lrcore.refine import Job, mask_of, outside, weighed


def kept_share(first: Step, mask: Volume) -> float:
    """How much of the density's power the mask keeps: Σ m² h₁ h₂ / Σ h₁ h₂, to which noise adds nothing."""
    both = first.half_maps.first.data * first.half_maps.second.data * inscribed_sphere(mask.box)
    total = float(both.sum(dtype=np.float64))
    return float((both * mask.data**2).sum(dtype=np.float64)) / total if total > 0 else 0.0


def subtracted_images(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Float32]:
    """Images as they are stored, less what the iteration after `last` subtracts: (b, n, n), in `writing_order`.

    first: the run's Step 0. Raises InputError if there is nothing to subtract, or if an image cannot be read.
    """
    particles = weighed(job, last)
    around = outside(job, first, mask_of(job, last, backend.threads), backend.threads)
    if around is None:
        raise InputError(
            f"{job.mask.path or 'mask'}: there is nothing to subtract outside of it on which the half maps agree: "
            "check the mask (it says what is kept) and the half maps"
        )
    stored = replace(particles.images, sign=np.ones(len(particles), np.float32))
    with StackReader(stored, particles.box) as reader:
        for half in (1, 2):
            rest = backend.place(from_map(around.maps[half - 1], around.limit, backend.threads))

            def work(batch: Batch, rest: FourierVolume = rest) -> Float32:
                images, sign = reader.read(batch.rows), particles.images.sign[batch.rows]
                return images - sign[:, None, None] * _outside(batch, rest, particles, backend)

            yield from worked(particles, reading_order(particles, half), backend, work)


def _outside(batch: Batch, rest: FourierVolume, particles: Particles, backend: Backend) -> Float32:
    """What lies outside as the images of a batch show it, but for their sign: (b, n, n)."""
    nothing = replace(batch, spectrum=backend.xp.zeros_like(batch.spectrum))
    model = -subtracted(nothing, rest, particles, backend).spectrum
    spectra = backend.to_host(as_stored(particles, batch.rows, model, backend))
    return ift(spectra, particles.box, 2, backend.threads).astype(np.float32)


def writing_order(particles: Particles) -> npt.NDArray[np.int64]:
    """(n,) rows in the order in which their images are written: by half set, as they are read."""
    return np.concatenate([reading_order(particles, half) for half in (1, 2)])


def rewritten(particles: Particles, path: Path, stack: Path) -> Particles:
    """The particles with the images in `stack` (see `subtracted_images`), for a table at `path`.

    They remember their images from before, and are marked so that nothing is subtracted again. Raises InputError if
    they are subtracted already.
    """
    if particles.subtracted:
        raise InputError(f"{particles.path}: is subtracted already: bring it back first (lrwidgets subtract --back)")
    n = len(particles)
    before = np.array(image_names(particles.images, path.parent, names_in_table(particles)))
    index = np.empty(n, np.int64)
    index[writing_order(particles)] = np.arange(n)
    images = Images((stack,), np.zeros(n, np.int32), index, particles.images.sign)
    framed = text_column(particles, POINT[0]) is not None
    columns = {SUBTRACTED: before, SUBTRACTED_FRAMED: np.full(n, int(framed))}
    if isinstance(particles.source, StarSource) and ORIGINAL_NAME not in particles.source.table.columns:
        columns[ORIGINAL_NAME] = before
    names = image_names(images, path.parent, None)
    out = with_images(particles, images, names, particles.box, np.zeros((n, 2), np.int64), path, columns)
    return replace(out, subtracted=True)


def brought_back(particles: Particles, path: Path, images_dir: Path | None) -> Particles:
    """Subtracted particles with their images from before, at their poses, new or not, for a table at `path`.

    Raises InputError if they are not subtracted, were recentred since, or if a stack from before is not found.
    """
    if not particles.subtracted:
        raise InputError(f"{particles.path}: has no column {SUBTRACTED}: only subtracted particles have a way back")
    before = number_column(particles, SUBTRACTED_FRAMED)
    if text_column(particles, POINT[0]) is not None and not (before is not None and before.any()):
        raise InputError(
            f"{particles.path}: was recentred after it was subtracted: undo that first (lrwidgets recenter --back)"
        )
    images = images_named(particles, SUBTRACTED, images_dir)
    known_as = text_column(particles, SUBTRACTED)
    ours = text_column(particles, ORIGINAL_NAME) == known_as
    drop = (SUBTRACTED, SUBTRACTED_FRAMED, *([ORIGINAL_NAME] if ours else []))
    names = image_names(images, path.parent, known_as)
    still = np.zeros((len(particles), 2), np.int64)
    return replace(with_images(particles, images, names, particles.box, still, path, {}, drop), subtracted=False)
