"""Recentre particles, maps and masks on a point in a box of another size, by whole pixels, and undo it.

With the point f (Å from the box centre) on the new centre, x' = x − f, and an image cut s pixels from its centre,
p' = p − s a, the pose p = (A x)_xy − o becomes A' = A, o' = o − (A f)_xy + s a. s is the nearest whole number of
pixels, so o' is a fraction of a pixel and nothing is interpolated. Defocus remains that of the centre of the particle.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64, Int64
from lrcore.errors import InputError
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.grids import ft, ift, index_grid, radius_grid, shell_mean, window_at
from lrcore.imaging.poses import magnified_rotation
from lrcore.io.derived_particles import number_column, text_column
from lrcore.io.image_stacks import StackReader
from lrcore.io.replaced_images import (
    SUBTRACTED_RECENTRED_COLUMN,
    format_image_names,
    image_names_in_table,
    images_from_column,
    replace_images,
)
from lrcore.masks import cosine_edge
from lrcore.records import ImageSource, Particles, Poses, Volume
from lrcore.units import electron_wavelength_A

POINT_COLUMNS = ("lrwFramePointXAngst", "lrwFramePointYAngst", "lrwFramePointZAngst")
SHIFT_COLUMNS = ("lrwFrameShiftX", "lrwFrameShiftY")
ORIGIN_COLUMNS = ("lrwFrameOriginXAngst", "lrwFrameOriginYAngst")
BOX_COLUMN, IMAGE_COLUMN = "lrwFrameBox", "lrwFrameImage"
COLUMNS = (*POINT_COLUMNS, *SHIFT_COLUMNS, *ORIGIN_COLUMNS, BOX_COLUMN, IMAGE_COLUMN)
"""Columns of recentred particles: point f (Å), cut s (px), and the original origin o (Å), box and image."""

BATCH = 64
NOISE_RADIUS_FRACTION = 0.45
"""An image is assumed to show noise beyond this radius, as a fraction of the box."""
CTF_POWER_SHARE = 0.95
"""Share of the particles whose CTF must fit into a box."""


@dataclass(frozen=True)
class Recentring:
    """Box about a voxel of a map, to which particles, maps and masks are recentred.

    Attributes
    ----------
    point : (x, y, z) voxels from the centre of the original box
    box : pixels of the new box
    original_box : pixels of the original box
    pixel_size_A : Å
    """

    point: tuple[int, int, int]
    box: int
    original_box: int
    pixel_size_A: float

    @property
    def point_A(self) -> Float64:
        """Return the point f, (3,) xyz, in Å from the centre of the original box."""
        return np.array(self.point) * self.pixel_size_A

    @property
    def inverse(self) -> "Recentring":
        """Return the frame that undoes this one."""
        x, y, z = self.point
        return Recentring((-x, -y, -z), self.original_box, self.box, self.pixel_size_A)


def recentring_at(point_A: npt.ArrayLike, box: int, original_box: int, pixel_size_A: float) -> Recentring:
    """Return the frame about the voxel nearest to a point.

    Parameters
    ----------
    point_A : (x, y, z) in Å from the centre of the original box
    box : pixels of the new box
    original_box : pixels of the original box
    pixel_size_A : Å

    Returns
    -------
    Recentring

    Raises
    ------
    InputError
        If the point is outside the original box, or the new box is too small or too large.
    """
    x, y, z = (int(voxel) for voxel in np.rint(np.asarray(point_A) / pixel_size_A))
    if min(x, y, z) < -(original_box // 2) or max(x, y, z) >= original_box - original_box // 2:
        raise InputError(
            f"point at voxel {x}, {y}, {z} from the centre is outside the box of {original_box} pixels: correct it"
        )
    if not 8 <= box <= 4 * original_box:
        raise InputError(f"box of {box} pixels: give one from 8 to {4 * original_box} pixels")
    return Recentring((x, y, z), box, original_box, pixel_size_A)


def recentre_map(volume: Volume, frame: Recentring) -> Volume:
    """Crop or pad a map into the frame; the header origin follows, so that the map keeps its place in space.

    Parameters
    ----------
    volume : map in the original box
    frame : where to crop

    Returns
    -------
    Volume
        (box, box, box), 0 outside the original map.
    """
    centre = tuple(p + frame.original_box // 2 for p in reversed(frame.point))
    corner = [c - frame.box // 2 for c in reversed(centre)]
    x, y, z = (o + c * frame.pixel_size_A for o, c in zip(volume.header_origin_A, corner, strict=True))
    return Volume(window_at(volume.data, centre, frame.box).astype(np.float32), volume.pixel_size_A, (x, y, z))


def crop_offsets(poses: Poses, frame: Recentring, lens: Float64 | None = None) -> Int64:
    """Return s (n, 2): whole pixels (x, y) from the centre of each image to the projected point.

    lens: (n, 3, 3) of `magnification_in_3d`, or None.
    """
    at = (magnified_rotation(poses.rotation, lens) @ frame.point_A)[:, :2]
    return np.rint((at - poses.origin_A) / frame.pixel_size_A).astype(np.int64)


def recentre_poses(poses: Poses, frame: Recentring, cut: Int64, lens: Float64 | None = None) -> Poses:
    """Convert poses into the frame for images cut at s = `cut`: o' = o − (A f)_xy + s a.

    lens: (n, 3, 3) of `magnification_in_3d`, applied to A f, or None.
    """
    moved = (magnified_rotation(poses.rotation, lens) @ frame.point_A)[:, :2]
    return Poses(poses.rotation, poses.origin_A - moved + cut * frame.pixel_size_A)


def recentre_images(particles: Particles, frame: Recentring, cut: Int64) -> Iterator[Float32]:
    """Read the stored images and crop them into the frame, batch by batch.

    Pixels outside the original image are filled with noise of the image's own mean and spectrum, seeded by the uid of
    the particle: a quieter fill would bias the noise estimate towards low values.

    Parameters
    ----------
    particles : n particles with their original images
    frame : where to crop
    cut : (n, 2) whole pixels (x, y) from the centre of each image to that of its crop

    Yields
    ------
    (b, box, box) float32
        Cropped images, in the order of the particles.

    Raises
    ------
    InputError
        If an image cannot be read.
    """
    stored = replace(particles.images, sign=np.ones(len(particles), np.float32))
    with StackReader(stored, frame.original_box) as reader:
        for start in range(0, len(particles), BATCH):
            rows = np.arange(start, min(start + BATCH, len(particles)))
            images = reader.read(rows)
            out = np.stack([_crop_image(image, offset, frame) for image, offset in zip(images, cut[rows], strict=True)])
            padded = np.nonzero(np.isnan(out).any(axis=(1, 2)))[0]
            if len(padded):
                fill = matching_noise(images[padded], frame.box, particles.uid[rows[padded]])
                out[padded] = np.where(np.isnan(out[padded]), fill, out[padded])
            yield out


def _crop_image(image: Float32, cut: Int64, frame: Recentring) -> Float32:
    x, y = (int(c) + frame.original_box // 2 for c in cut)
    return window_at(image, (y, x), frame.box, np.nan).astype(np.float32)


def matching_noise(images: Float32, box: int, seeds: npt.NDArray[np.uint64]) -> Float32:
    """Generate noise (b, box, box) with the mean and the radial spectrum of images (b, n, n) near their edges."""
    n = images.shape[-1]
    rim = 1 - cosine_edge(radius_grid(n, 2), NOISE_RADIUS_FRACTION * n, 3.0)
    mean = (images * rim).sum(axis=(1, 2), dtype=np.float64) / rim.sum()
    power = np.abs(ft((images - mean[:, None, None].astype(np.float32)) * rim, 2)) ** 2 / np.square(rim).sum()
    shells = shell_mean(power, n, 2)
    ky, kx = index_grid(box, 2)
    radius = np.hypot(kx, ky) * (n / box)
    gain = np.stack([np.sqrt(np.interp(radius, np.arange(len(row)), row)) for row in shells])
    white = np.stack([np.random.default_rng(int(seed)).standard_normal((box, box)) for seed in seeds])
    noise = ift(ft(white, 2) * gain, box, 2) + mean[:, None, None]
    return noise.astype(np.float32)


def visible_fraction(cut: Int64, frame: Recentring) -> Float64:
    """Compute the share of each cropped image that the original image covers.

    Parameters
    ----------
    cut : (n, 2) whole pixels (x, y) from the centre of each image to that of its crop
    frame : where to crop

    Returns
    -------
    (n,) float64
        0 to 1.
    """
    first = cut + frame.original_box // 2 - frame.box // 2
    size = np.minimum(first + frame.box, frame.original_box) - np.maximum(first, 0)
    share: Float64 = np.clip(size, 0, None).prod(axis=1) / frame.box**2
    return share


def recentring_of(particles: Particles) -> tuple[Recentring, Int64]:
    """Return the frame of recentred particles, and their cuts.

    Parameters
    ----------
    particles : n recentred particles

    Returns
    -------
    frame : Recentring
    cut : (n, 2) whole pixels (x, y) from the centre of each original image to that of the new one

    Raises
    ------
    InputError
        If they are not recentred, are recentred to several points or boxes, or were subtracted afterwards.
    """
    subtracted = number_column(particles, SUBTRACTED_RECENTRED_COLUMN)
    if subtracted is not None and subtracted.any():
        raise InputError(
            f"{particles.path}: was subtracted after recentring: undo the subtraction first (lrwidgets subtract --back)"
        )
    columns = [number_column(particles, name) for name in (*POINT_COLUMNS, BOX_COLUMN, *SHIFT_COLUMNS)]
    known = [column for column in columns if column is not None]
    if len(known) < len(columns):
        raise InputError(
            f"{particles.path}: no columns {POINT_COLUMNS[0]} and so on: give particles that were recentred"
        )
    x, y, z, before = (column[0] for column in known[:4])
    if any(np.ptp(column) > 1e-3 for column in known[:4]):
        raise InputError(
            f"{particles.path}: particles recentred to several points or boxes ({POINT_COLUMNS[0]}, {BOX_COLUMN}): "
            "undo each recentring separately"
        )
    pixel = particles.pixel_size_A
    point = (round(x / pixel), round(y / pixel), round(z / pixel))
    return Recentring(point, particles.box, int(before), pixel), np.column_stack(known[4:]).astype(np.int64)


def recentre_particles(particles: Particles, frame: Recentring, path: Path, stack: Path) -> tuple[Particles, Int64]:
    """Recentre particles into the frame; COLUMNS record how to undo it.

    Parameters
    ----------
    particles : n particles
    frame : box about the new centre
    path : file to which the table will be written
    stack : file to which the images of `recentre_images` will be written

    Returns
    -------
    particles : Particles
        With their poses in the frame, images in `stack`.
    cut : (n, 2) whole pixels (x, y) from the centre of each original image to that of the new one

    Raises
    ------
    InputError
        If they are recentred already.
    """
    if text_column(particles, POINT_COLUMNS[0]) is not None:
        raise InputError(f"{particles.path}: is recentred already: undo that first (lrwidgets recenter --back)")
    n, lens = len(particles), magnification_in_3d(particles, np.arange(len(particles)))
    cut = crop_offsets(particles.poses, frame, lens)
    columns = dict(zip(POINT_COLUMNS, np.tile(frame.point_A[:, None], n), strict=True))
    columns |= dict(zip([*SHIFT_COLUMNS, *ORIGIN_COLUMNS], [*cut.T, *particles.poses.origin_A.T], strict=True))
    known_as = format_image_names(particles.images, path.parent, image_names_in_table(particles))
    columns |= {BOX_COLUMN: np.full(n, frame.original_box), IMAGE_COLUMN: np.array(known_as)}
    images = ImageSource((stack,), np.zeros(n, np.int32), np.arange(n), particles.images.sign)
    names = format_image_names(images, path.parent, None)
    out = replace_images(particles, images, names, frame.box, cut, path, columns)
    return replace(out, poses=recentre_poses(particles.poses, frame, cut, lens)), cut


def undo_recentring(particles: Particles, path: Path, images_dir: Path | None) -> Particles:
    """Convert recentred particles, with their current poses, back to their original images.

    Parameters
    ----------
    particles : n recentred particles, whose poses may have been refined since
    path : file to which the table will be written
    images_dir : folder in which the original stacks are searched first, or None

    Returns
    -------
    Particles
        With the images, box and centre from before the recentring.

    Raises
    ------
    InputError
        If they are not recentred, or an original stack does not exist.
    """
    frame, cut = recentring_of(particles)
    images = images_from_column(particles, IMAGE_COLUMN, images_dir)
    names = format_image_names(images, path.parent, text_column(particles, IMAGE_COLUMN))
    out = replace_images(particles, images, names, frame.original_box, -cut, path, {}, COLUMNS)
    lens = magnification_in_3d(particles, np.arange(len(particles)))
    return replace(out, poses=undo_pose_recentring(particles.poses, frame, cut, lens))


def undo_pose_recentring(poses: Poses, frame: Recentring, cut: Int64, lens: Float64 | None = None) -> Poses:
    """Convert poses in the frame back to the original box: o = o' + (A' f)_xy − s a."""
    moved = (magnified_rotation(poses.rotation, lens) @ frame.point_A)[:, :2]
    return Poses(poses.rotation, poses.origin_A + moved - cut * frame.pixel_size_A)


def ctf_delocalisation_limit_A(particles: Particles, box: int, diameter_A: float) -> float:
    """Compute the resolution to which a box contains the signal that the CTF delocalises.

    The CTF displaces signal at k by |λ Δf k − C_s λ³ k³|; the box contains displacements up to (box − diameter) / 2.

    Parameters
    ----------
    particles : n particles, for their CTF and pixel size
    box : pixels
    diameter_A : Å, of the body

    Returns
    -------
    float
        Å, reached for CTF_POWER_SHARE of the particles; infinite if the body does not fit into the box, two pixels
        (Nyquist) if the signal fits at all frequencies.
    """
    room = 0.5 * (box * particles.pixel_size_A - diameter_A)
    if room <= 0:
        return np.inf
    limit = np.full(len(particles), 1 / (2 * particles.pixel_size_A))
    grid = np.linspace(0, limit[0], 201)[1:]
    for number, optics in enumerate(particles.optics):
        members = particles.group == number
        wavelength = electron_wavelength_A(optics.voltage_kV)
        defocus = np.abs(particles.defocus_A[members]).max(axis=1)
        spread = np.abs(wavelength * defocus[:, None] * grid - optics.cs_mm * 1e7 * wavelength**3 * grid**3)
        beyond = np.maximum.accumulate(spread, axis=1) > room
        first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), len(grid) - 1)
        limit[members] = grid[first]
    return float(1 / np.quantile(limit, 1 - CTF_POWER_SHARE))
