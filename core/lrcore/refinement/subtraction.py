"""Write images without the density outside a mask, as a refinement subtracts it on the fly, and restore them.

The mask says what is *kept*. From an image X of half set h, at its input pose,

    X' = X − C · slice of (1 − mask) · F(map of h)

with the half map on the scale of the images and F a filter by √FSC outside the mask (`reference.outside_density`). The
half sets share nothing but that FSC. The mean of an image, and density on which the half maps do not agree, stay.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
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
from lrcore.refinement.density import density_to_subtract, images_are_subtracted, mask_for_next_iteration
from lrcore.refinement.density_projector import DensityProjector
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.job import Job, with_signal_scale


def power_share_in_mask(first: Step, mask: Volume) -> float:
    """Return the share of the density's power that a mask keeps.

        Σ m² h₁ h₂ / Σ h₁ h₂,  to which noise adds nothing

    Parameters
    ----------
    first : step 0 of the run, whose half maps h₁ and h₂ are whole
    mask : m, (n, n, n)
    """
    both = first.half_maps.first.data * first.half_maps.second.data * inscribed_sphere(mask.box)
    total = float(both.sum(dtype=np.float64))
    return float((both * mask.data**2).sum(dtype=np.float64)) / total if total > 0 else 0.0


def subtracted_images(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Float32]:
    """Yield the images as they are stored, without the density that the iteration after a step subtracts.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    last : step whose next iteration subtracts
    backend : where the kernels run

    Yields
    ------
    ndarray
        (b, n, n) in the order of `writing_order`.

    Raises
    ------
    InputError
        When there is nothing to subtract, or an image cannot be read.
    """
    particles = with_signal_scale(job, last)
    if images_are_subtracted(particles, first):
        raise InputError(
            f"{particles.path}: the density outside the mask is already subtracted from these images: there is nothing "
            "left to subtract"
        )
    outside = density_to_subtract(job, first, mask_for_next_iteration(job, last, backend.threads), backend.threads)
    if outside is None:
        raise InputError(
            f"{job.mask.path or 'mask'}: there is nothing to subtract outside of it, the half maps agree on no density "
            "there: check the mask (it says what is kept) and the half maps"
        )
    stored = replace(particles.images, sign=np.ones(len(particles), np.float32))
    with StackReader(stored, particles.box) as reader:
        for half in (1, 2):
            parts = tuple(part.to_device(backend) for part in outside.projectors(half, backend.threads))

            def work(batch: Batch, parts: tuple[DensityProjector, ...] = parts) -> Float32:
                images, sign = reader.read(batch.rows), particles.images.sign[batch.rows]
                return images - sign[:, None, None] * _outside_density_images(batch, parts, particles, backend)

            yield from map_batches(particles, reading_order(particles, half), backend, work)


def writing_order(particles: Particles) -> npt.NDArray[np.int64]:
    """Return the rows (n,) in the order in which subtracted images are written: by half set, as they are read."""
    return np.concatenate([reading_order(particles, half) for half in (1, 2)])


def with_subtracted_images(particles: Particles, path: Path, stack: Path) -> Particles:
    """Return the particles with their subtracted images, for a table.

    They keep the names of their original images, and are marked so that nothing is subtracted again.

    Parameters
    ----------
    particles : at the poses to write
    path : table to be written, to which names of images are relative
    stack : file with the images of `subtracted_images`

    Raises
    ------
    InputError
        When the particles are subtracted already.
    """
    if particles.subtracted:
        raise InputError(f"{particles.path}: is subtracted already: restore it first (lrwidgets subtract --back)")
    n = len(particles)
    original = np.array(format_image_names(particles.images, path.parent, image_names_in_table(particles)))
    index = np.empty(n, np.int64)
    index[writing_order(particles)] = np.arange(n)
    images = ImageSource((stack,), np.zeros(n, np.int32), index, particles.images.sign)
    recentred = text_column(particles, POINT_COLUMNS[0]) is not None
    columns = {SUBTRACTED_COLUMN: original, SUBTRACTED_RECENTRED_COLUMN: np.full(n, int(recentred))}
    if isinstance(particles.source, StarSource) and ORIGINAL_NAME not in particles.source.table.columns:
        columns[ORIGINAL_NAME] = original
    names = format_image_names(images, path.parent, None)
    replaced = replace_images(particles, images, names, particles.box, np.zeros((n, 2), np.int64), path, columns)
    return replace(replaced, subtracted=True)


def restore_original_images(particles: Particles, path: Path, images_dir: Path | None) -> Particles:
    """Return subtracted particles with their original images, for a table. Poses stay as they are.

    Parameters
    ----------
    particles : with the columns that `with_subtracted_images` adds
    path : table to be written, to which names of images are relative
    images_dir : folder in which to find the original stacks, or None for where the table says

    Raises
    ------
    InputError
        When they are not subtracted, were recentred after that, or an original stack is not found.
    """
    if not particles.subtracted:
        raise InputError(
            f"{particles.path}: has no column {SUBTRACTED_COLUMN}: only subtracted particles can be restored"
        )
    recentred_before = number_column(particles, SUBTRACTED_RECENTRED_COLUMN)
    if text_column(particles, POINT_COLUMNS[0]) is not None and not (
        recentred_before is not None and recentred_before.any()
    ):
        raise InputError(
            f"{particles.path}: was recentred after it was subtracted: undo that first (lrwidgets recenter --back)"
        )
    images = images_from_column(particles, SUBTRACTED_COLUMN, images_dir)
    original = text_column(particles, SUBTRACTED_COLUMN)
    added = text_column(particles, ORIGINAL_NAME) == original
    drop = (SUBTRACTED_COLUMN, SUBTRACTED_RECENTRED_COLUMN, *([ORIGINAL_NAME] if added else []))
    names = format_image_names(images, path.parent, original)
    no_shift = np.zeros((len(particles), 2), np.int64)
    return replace(replace_images(particles, images, names, particles.box, no_shift, path, {}, drop), subtracted=False)


def _outside_density_images(
    batch: Batch, parts: tuple[DensityProjector, ...], particles: Particles, backend: Backend
) -> Float32:
    """Return the density outside the mask as the images of a batch show it, protein white: (b, n, n)."""
    empty = replace(batch, spectrum=backend.xp.zeros_like(batch.spectrum))
    model = -subtract_outside_density(empty, parts, particles, backend).spectrum
    spectra = backend.to_host(undo_corrections(particles, batch.rows, model, backend))
    return ift(spectra, particles.box, 2, backend.threads).astype(np.float32)
