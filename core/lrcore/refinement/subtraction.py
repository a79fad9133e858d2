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

from lrcore.arrays import Float32
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import FourierVolume, map_to_fourier_volume
from lrcore.imaging.grids import ift
from lrcore.io.derived_particles import number_column, text_column
from lrcore.io.image_stacks import StackReader
from lrcore.io.replaced_images import (
    ORIGINAL_NAME,
    SUBTRACTED_COLUMN,
    SUBTRACTED_RECENTRED_COLUMN,
    format_image_names,
    image_names_in_table,
    images_from_column,
    replace_images,
)
from lrcore.io.star_table import StarSource
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order, undo_corrections
from lrcore.particles.recentring import POINT_COLUMNS
from lrcore.records import ImageSource, Particles, Step, Volume
from lrcore.refinement.density import density_to_subtract, mask_for_next_iteration
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.job import Job, with_signal_scale


def power_share_in_mask(first: Step, mask: Volume) -> float:
    """How much of the density's power the mask keeps: Σ m² h₁ h₂ / Σ h₁ h₂, to which noise adds nothing."""
    both = first.half_maps.first.data * first.half_maps.second.data * inscribed_sphere(mask.box)
    total = float(both.sum(dtype=np.float64))
    return float((both * mask.data**2).sum(dtype=np.float64)) / total if total > 0 else 0.0


def subtracted_images(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Float32]:
    """Images as they are stored, less what the iteration after `last` subtracts: (b, n, n), in `writing_order`.

    first: the run's Step 0. Raises InputError if there is nothing to subtract, or if an image cannot be read.
    """
    particles = with_signal_scale(job, last)
    around = density_to_subtract(job, first, mask_for_next_iteration(job, last, backend.threads), backend.threads)
    if around is None:
        raise InputError(
            f"{job.mask.path or 'mask'}: there is nothing to subtract outside of it on which the half maps agree: "
            "check the mask (it says what is kept) and the half maps"
        )
    stored = replace(particles.images, sign=np.ones(len(particles), np.float32))
    with StackReader(stored, particles.box) as reader:
        for half in (1, 2):
            rest = backend.place(map_to_fourier_volume(around.maps[half - 1], around.limit, backend.threads))

            def work(batch: Batch, rest: FourierVolume = rest) -> Float32:
                images, sign = reader.read(batch.rows), particles.images.sign[batch.rows]
                return images - sign[:, None, None] * _outside_density_images(batch, rest, particles, backend)

            yield from map_batches(particles, reading_order(particles, half), backend, work)


def _outside_density_images(batch: Batch, rest: FourierVolume, particles: Particles, backend: Backend) -> Float32:
    """What lies outside as the images of a batch show it, but for their sign: (b, n, n)."""
    nothing = replace(batch, spectrum=backend.xp.zeros_like(batch.spectrum))
    model = -subtract_outside_density(nothing, rest, particles, backend).spectrum
    spectra = backend.to_host(undo_corrections(particles, batch.rows, model, backend))
    return ift(spectra, particles.box, 2, backend.threads).astype(np.float32)


def writing_order(particles: Particles) -> npt.NDArray[np.int64]:
    """(n,) rows in the order in which their images are written: by half set, as they are read."""
    return np.concatenate([reading_order(particles, half) for half in (1, 2)])


def with_subtracted_images(particles: Particles, path: Path, stack: Path) -> Particles:
    """The particles with the images in `stack` (see `subtracted_images`), for a table at `path`.

    They remember their images from before, and are marked so that nothing is subtracted again. Raises InputError if
    they are subtracted already.
    """
    if particles.subtracted:
        raise InputError(f"{particles.path}: is subtracted already: bring it back first (lrwidgets subtract --back)")
    n = len(particles)
    before = np.array(format_image_names(particles.images, path.parent, image_names_in_table(particles)))
    index = np.empty(n, np.int64)
    index[writing_order(particles)] = np.arange(n)
    images = ImageSource((stack,), np.zeros(n, np.int32), index, particles.images.sign)
    framed = text_column(particles, POINT_COLUMNS[0]) is not None
    columns = {SUBTRACTED_COLUMN: before, SUBTRACTED_RECENTRED_COLUMN: np.full(n, int(framed))}
    if isinstance(particles.source, StarSource) and ORIGINAL_NAME not in particles.source.table.columns:
        columns[ORIGINAL_NAME] = before
    names = format_image_names(images, path.parent, None)
    out = replace_images(particles, images, names, particles.box, np.zeros((n, 2), np.int64), path, columns)
    return replace(out, subtracted=True)


def restore_original_images(particles: Particles, path: Path, images_dir: Path | None) -> Particles:
    """Subtracted particles with their images from before, at their poses, new or not, for a table at `path`.

    Raises InputError if they are not subtracted, were recentred since, or if a stack from before is not found.
    """
    if not particles.subtracted:
        raise InputError(
            f"{particles.path}: has no column {SUBTRACTED_COLUMN}: only subtracted particles have a way back"
        )
    before = number_column(particles, SUBTRACTED_RECENTRED_COLUMN)
    if text_column(particles, POINT_COLUMNS[0]) is not None and not (before is not None and before.any()):
        raise InputError(
            f"{particles.path}: was recentred after it was subtracted: undo that first (lrwidgets recenter --back)"
        )
    images = images_from_column(particles, SUBTRACTED_COLUMN, images_dir)
    known_as = text_column(particles, SUBTRACTED_COLUMN)
    ours = text_column(particles, ORIGINAL_NAME) == known_as
    drop = (SUBTRACTED_COLUMN, SUBTRACTED_RECENTRED_COLUMN, *([ORIGINAL_NAME] if ours else []))
    names = format_image_names(images, path.parent, known_as)
    still = np.zeros((len(particles), 2), np.int64)
    return replace(replace_images(particles, images, names, particles.box, still, path, {}, drop), subtracted=False)
