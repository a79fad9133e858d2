"""Framing: particles, maps and mask moved together onto a point and into another box, by whole pixels, and back.

With the point f (Å from the box centre) on the new centre, x' = x − f, and an image cut s pixels from its centre,
p' = p − s a, the pose p = (A x)_xy − o becomes A' = A, o' = o − (A f)_xy + s a. s is the nearest whole number of
pixels, so o' is what is left of a pixel and nothing is interpolated. Defocus stays that of the particle's centre.
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
"""What a recentred particle remembers: the point f, the cut s (px), its origin o, box and image from before."""

BATCH = 64
NOISE_RIM = 0.45
"""Beyond this share of the box from its centre, an image is taken to show noise."""
CTF_POWER_SHARE = 0.95
"""The share of particles whose CTF a box has to hold."""


@dataclass(frozen=True)
class Recentring:
    """A box of `box` pixels about the voxel `point`, (x, y, z) from the centre of a box of `before` pixels."""

    point: tuple[int, int, int]
    box: int
    before: int
    pixel_size_A: float

    @property
    def point_A(self) -> Float64:
        """The point f (x, y, z) in Å from the centre of the box before: (3,)."""
        return np.array(self.point) * self.pixel_size_A

    @property
    def inverse(self) -> "Recentring":
        """The frame that undoes this one."""
        x, y, z = self.point
        return Recentring((-x, -y, -z), self.before, self.box, self.pixel_size_A)


def recentring_at(point_A: npt.ArrayLike, box: int, before: int, pixel_size_A: float) -> Recentring:
    """The frame about the voxel nearest a point in Å from the box centre. Raises InputError if it is not in the box."""
    x, y, z = (int(voxel) for voxel in np.rint(np.asarray(point_A) / pixel_size_A))
    if min(x, y, z) < -(before // 2) or max(x, y, z) >= before - before // 2:
        raise InputError(
            f"the point at voxel {x}, {y}, {z} from the centre is outside of the box of {before}: correct it"
        )
    if not 8 <= box <= 4 * before:
        raise InputError(f"a box of {box} pixels: give one from 8 to {4 * before}")
    return Recentring((x, y, z), box, before, pixel_size_A)


def recentre_map(volume: Volume, frame: Recentring) -> Volume:
    """The map in the frame, 0 where it was not known; its header's origin moves so that it stays where it was."""
    centre = tuple(p + frame.before // 2 for p in reversed(frame.point))
    corner = [c - frame.box // 2 for c in reversed(centre)]
    x, y, z = (o + c * frame.pixel_size_A for o, c in zip(volume.header_origin_A, corner, strict=True))
    return Volume(window_at(volume.data, centre, frame.box).astype(np.float32), volume.pixel_size_A, (x, y, z))


def crop_offsets(poses: Poses, frame: Recentring, lens: Float64 | None = None) -> Int64:
    """(n, 2) s: whole pixels (x, y) from an image's centre to where the point is seen in it, through the lens."""
    at = (magnified_rotation(poses.rotation, lens) @ frame.point_A)[:, :2]
    return np.rint((at - poses.origin_A) / frame.pixel_size_A).astype(np.int64)


def recentre_poses(poses: Poses, frame: Recentring, cut: Int64, lens: Float64 | None = None) -> Poses:
    """Poses of images cut at `cut` in the frame: o' = o − (A f)_xy + s a, A f as seen through the lens."""
    moved = (magnified_rotation(poses.rotation, lens) @ frame.point_A)[:, :2]
    return Poses(poses.rotation, poses.origin_A - moved + cut * frame.pixel_size_A)


def recentre_images(particles: Particles, frame: Recentring, cut: Int64) -> Iterator[Float32]:
    """Images as they are stored, cut at `cut`, in batches: (b, box, box). Raises InputError if one cannot be read.

    What an image does not show is filled with noise of its own mean and spectrum, drawn from the particle's uid: with
    anything quieter, the noise of the images would be taken to be less than it is.
    """
    stored = replace(particles.images, sign=np.ones(len(particles), np.float32))
    with StackReader(stored, frame.before) as reader:
        for start in range(0, len(particles), BATCH):
            rows = np.arange(start, min(start + BATCH, len(particles)))
            images = reader.read(rows)
            out = np.stack([_crop_image(image, at, frame) for image, at in zip(images, cut[rows], strict=True)])
            short = np.nonzero(np.isnan(out).any(axis=(1, 2)))[0]
            if len(short):
                fill = matching_noise(images[short], frame.box, particles.uid[rows[short]])
                out[short] = np.where(np.isnan(out[short]), fill, out[short])
            yield out


def _crop_image(image: Float32, cut: Int64, frame: Recentring) -> Float32:
    x, y = (int(c) + frame.before // 2 for c in cut)
    return window_at(image, (y, x), frame.box, np.nan).astype(np.float32)


def matching_noise(images: Float32, box: int, seeds: npt.NDArray[np.uint64]) -> Float32:
    """Noise with the mean and the radial spectrum of images (b, n, n) near their edges: (b, box, box)."""
    n = images.shape[-1]
    rim = 1 - cosine_edge(radius_grid(n, 2), NOISE_RIM * n, 3.0)
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
    """(n,) share of the cut image that the image shows."""
    first = cut + frame.before // 2 - frame.box // 2
    size = np.minimum(first + frame.box, frame.before) - np.maximum(first, 0)
    share: Float64 = np.clip(size, 0, None).prod(axis=1) / frame.box**2
    return share


def recentring_of(particles: Particles) -> tuple[Recentring, Int64]:
    """The frame that recentred particles are in, and their cuts. Raises InputError if they are not, or in several."""
    subtracted = number_column(particles, SUBTRACTED_RECENTRED_COLUMN)
    if subtracted is not None and subtracted.any():
        raise InputError(
            f"{particles.path}: was subtracted after it was recentred: undo that first (lrwidgets subtract --back)"
        )
    columns = [number_column(particles, name) for name in (*POINT_COLUMNS, BOX_COLUMN, *SHIFT_COLUMNS)]
    known = [column for column in columns if column is not None]
    if len(known) < len(columns):
        raise InputError(
            f"{particles.path}: has no columns {POINT_COLUMNS[0]} and so on: only recentred particles have a way back"
        )
    x, y, z, before = (column[0] for column in known[:4])
    if any(np.ptp(column) > 1e-3 for column in known[:4]):
        raise InputError(
            f"{particles.path}: particles of several points or boxes ({POINT_COLUMNS[0]}, {BOX_COLUMN}): "
            "bring each back alone"
        )
    pixel = particles.pixel_size_A
    point = (round(x / pixel), round(y / pixel), round(z / pixel))
    return Recentring(point, particles.box, int(before), pixel), np.column_stack(known[4:]).astype(np.int64)


def recentre_particles(particles: Particles, frame: Recentring, path: Path, stack: Path) -> tuple[Particles, Int64]:
    """The particles in the frame, for a table at `path` and images in `stack` (see `framed_images`), and their cuts.

    They remember where they come from in COLUMNS. Raises InputError if they are recentred already.
    """
    if text_column(particles, POINT_COLUMNS[0]) is not None:
        raise InputError(f"{particles.path}: is recentred already: bring it back first (lrwidgets recenter --back)")
    n, behind = len(particles), magnification_in_3d(particles, np.arange(len(particles)))
    cut = crop_offsets(particles.poses, frame, behind)
    columns = dict(zip(POINT_COLUMNS, np.tile(frame.point_A[:, None], n), strict=True))
    columns |= dict(zip([*SHIFT_COLUMNS, *ORIGIN_COLUMNS], [*cut.T, *particles.poses.origin_A.T], strict=True))
    known_as = format_image_names(particles.images, path.parent, image_names_in_table(particles))
    columns |= {BOX_COLUMN: np.full(n, frame.before), IMAGE_COLUMN: np.array(known_as)}
    images = ImageSource((stack,), np.zeros(n, np.int32), np.arange(n), particles.images.sign)
    names = format_image_names(images, path.parent, None)
    out = replace_images(particles, images, names, frame.box, cut, path, columns)
    return replace(out, poses=recentre_poses(particles.poses, frame, cut, behind)), cut


def undo_recentring(particles: Particles, path: Path, images_dir: Path | None) -> Particles:
    """Recentred particles at their poses, new or not, as particles of their images from before, for a table at `path`.

    Raises InputError if they are not recentred, or if a stack from before is not found.
    """
    frame, cut = recentring_of(particles)
    images = images_from_column(particles, IMAGE_COLUMN, images_dir)
    names = format_image_names(images, path.parent, text_column(particles, IMAGE_COLUMN))
    out = replace_images(particles, images, names, frame.before, -cut, path, {}, COLUMNS)
    behind = magnification_in_3d(particles, np.arange(len(particles)))
    return replace(out, poses=undo_pose_recentring(particles.poses, frame, cut, behind))


def undo_pose_recentring(poses: Poses, frame: Recentring, cut: Int64, lens: Float64 | None = None) -> Poses:
    """Poses in the frame, whether new or not, as they are in the box before: o = o' + (A' f)_xy − s a."""
    moved = (magnified_rotation(poses.rotation, lens) @ frame.point_A)[:, :2]
    return Poses(poses.rotation, poses.origin_A + moved - cut * frame.pixel_size_A)


def ctf_delocalisation_limit_A(particles: Particles, box: int, diameter_A: float) -> float:
    """Resolution in Å to which a box of so many pixels holds what the CTF spreads of a body of that diameter.

    Signal at k is displaced by |λ Δf k − C_s λ³ k³|; the box holds it up to (box − diameter) / 2. For RINGS of the
    particles. Infinite if the body itself does not fit, two pixels if all is held.
    """
    room = 0.5 * (box * particles.pixel_size_A - diameter_A)
    if room <= 0:
        return np.inf
    held = np.full(len(particles), 1 / (2 * particles.pixel_size_A))
    grid = np.linspace(0, held[0], 201)[1:]
    for number, optics in enumerate(particles.optics):
        mine = particles.group == number
        wavelength = electron_wavelength_A(optics.voltage_kV)
        defocus = np.abs(particles.defocus_A[mine]).max(axis=1)
        spread = np.abs(wavelength * defocus[:, None] * grid - optics.cs_mm * 1e7 * wavelength**3 * grid**3)
        beyond = np.maximum.accumulate(spread, axis=1) > room
        first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), len(grid) - 1)
        held[mine] = grid[first]
    return float(1 / np.quantile(held, 1 - CTF_POWER_SHARE))
