"""`lrwidgets recenter`: move particles, maps and mask to another centre and into another box, and back."""

import warnings
from argparse import Namespace
from dataclasses import dataclass, replace

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.resampling import grid_mismatch
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import is_float16
from lrcore.io.paths import create_files_or_clean_up
from lrcore.masks import centre_of_mass, farthest_voxel_distance
from lrcore.particles.recentring import (
    Recentring,
    ctf_delocalisation_limit_A,
    recentre_images,
    recentre_map,
    recentre_particles,
    recentring_at,
    recentring_of,
    undo_recentring,
    visible_fraction,
)
from lrcore.records import Particles, Volume
from lrcore.refinement.input_checks import warn_of_input
from lrcore.refinement.parameters import FULCRUM_PATTERN, fulcrum_point
from lrwidgets.cli.job_folder import fill_from_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.session.loading import read_half_maps, table_suffix
from lrwidgets.session.session import Session
from lrwidgets.text.parameters import POINT_FORMS

FINEST_SIGNAL_PX = 3.0
"""Resolution, in pixels, to which the new box should hold the signal that the CTF delocalises."""


@dataclass(frozen=True)
class _RecentringInput:
    """Data to move.

    Attributes
    ----------
    particles : particles at the poses to write
    mask : mask of the region, in the particles' box; None if there is none
    maps : name of the file to write → map
    """

    particles: Particles
    mask: Volume | None
    maps: dict[str, Volume]


def recenter(arguments: Namespace) -> None:
    """Write particles, maps and mask about another centre and in another box, or undo that."""
    if arguments.back and (arguments.point is not None or arguments.box is not None):
        raise InputError("--back restores the original centre and box: leave out --point and --box")
    fill_from_job_folder(arguments, Printer(arguments.json), *(() if arguments.back else ("half_maps", "mask")))
    data = _from_run(arguments) if arguments.particles.is_dir() else _from_files(arguments)
    suffix = table_suffix(data.particles)
    with create_files_or_clean_up(
        arguments.out, [f"particles{suffix}", "particles.mrcs", *data.maps], arguments.overwrite
    ) as out:
        table = out / f"particles{suffix}"
        frame = recentring_of(data.particles)[0].inverse if arguments.back else _recentring(arguments, data)
        if arguments.back:
            moved = undo_recentring(data.particles, table, arguments.images)
        else:
            moved, cut = recentre_particles(data.particles, frame, table, out / "particles.mrcs")
            _warn(data, frame, visible_fraction(cut, frame))
            images = recentre_images(data.particles, frame, cut)
            float16 = is_float16(data.particles.images)
            write_image_stack(out / "particles.mrcs", len(moved), frame.box, frame.pixel_size_A, images, float16)
        for name, volume in data.maps.items():
            io.write_volume(out / name, recentre_map(volume, frame))
        io.write_particles(table, moved, moved.poses)
    x, y, z = frame.point
    Printer(arguments.json).report_file(
        out,
        f"{len(moved)} particles, box {frame.original_box} → {frame.box}, centre moved by {x}, {y}, {z} px",
        particles=len(moved),
        box=frame.box,
        point_px=frame.point,
        point_A=frame.point_A,
    )


def _from_files(arguments: Namespace) -> _RecentringInput:
    """Read particles, maps and mask."""
    a = arguments
    maps = {path.name: io.read_volume(path, a.apix) for path in a.map}
    halves = read_half_maps(tuple(map(str, a.half_maps)), a.apix)
    if halves is not None:
        maps |= {"half1.mrc": halves.first, "half2.mrc": halves.second}
    mask = None if a.mask is None else io.read_volume(a.mask, a.apix)
    if mask is not None:
        maps["mask.mrc"] = mask
    particles = io.read_particles(a.particles, None if a.back else a.images)
    _check_grids(particles, maps)
    if not a.back:  # a mask in another frame may be cut by its box
        warn_of_input(particles, mask, halves)
    return _RecentringInput(particles, mask, maps)


def _from_run(arguments: Namespace) -> _RecentringInput:
    """Read the poses, half maps and mask of the last step of a run."""
    a = arguments
    if a.map or a.half_maps or a.mask:
        raise InputError(
            f"{a.particles}: a run has its own half maps and mask: leave out --map, --half-maps and --mask"
        )
    with Session.open(a.particles, images=None if a.back else a.images, write=False) as session:
        _, step = session.load_step()
        job = session.job
    particles = replace(job.particles, poses=step.expectation.poses)
    halves, origin = step.half_maps, job.mask.header_origin_A
    maps = {"half1.mrc": halves.first, "half2.mrc": halves.second}
    maps = {name: replace(volume, header_origin_A=origin) for name, volume in maps.items()}
    return _RecentringInput(particles, job.mask, maps | {"mask.mrc": job.mask})


def _recentring(arguments: Namespace, data: _RecentringInput) -> Recentring:
    """Return the centre and box that the options name."""
    particles, text = data.particles, arguments.point or "mask"
    centre = (0.0, 0.0, 0.0)
    if text == "mask":
        if data.mask is None:
            raise InputError("--point is missing: give it, or a --mask whose centre of mass is used")
        x, y, z = (float(c) for c in centre_of_mass(data.mask.data) * particles.pixel_size_A)
        centre = (x, y, z)
    elif text != "box" and not FULCRUM_PATTERN.match(text):
        raise InputError(f"--point {text}: write mask, {POINT_FORMS}")
    elif text.rstrip().endswith("map") and not data.maps:
        raise InputError(f"--point {text}: is in the frame of a map: give --map, --half-maps or --mask as well")
    origin = next((volume.header_origin_A for volume in data.maps.values()), (0.0, 0.0, 0.0))
    point = fulcrum_point(text, particles.box, particles.pixel_size_A, centre, origin)
    return recentring_at(point, arguments.box or particles.box, particles.box, particles.pixel_size_A)


def _warn(data: _RecentringInput, frame: Recentring, share: np.ndarray) -> None:
    """Warn of a box that is too small, and of images that cover it only in part. share: (n,) covered by each image."""
    particles, mask = data.particles, data.mask
    centre = np.array(frame.point)
    diameter = (
        2 * farthest_voxel_distance(mask.data, centre) * frame.pixel_size_A
        if mask is not None and mask.data.any()
        else 0.0
    )
    finest, wanted = ctf_delocalisation_limit_A(particles, frame.box, diameter), FINEST_SIGNAL_PX * frame.pixel_size_A
    if frame.box < frame.original_box and finest > max(
        wanted, ctf_delocalisation_limit_A(particles, frame.original_box, diameter)
    ):
        reach = f"only to {finest:.1f} A" if np.isfinite(finest) else "at no resolution"
        warnings.warn(
            f"--box {frame.box}: holds the signal of a region of {diameter:.0f} A, delocalised by the CTF, {reach}; "
            f"signal beyond that is cut off or wraps around: use a box of "
            f"{needed_box(particles, frame, diameter, wanted)} for {wanted:.1f} A",
            stacklevel=3,
        )
    if mask is not None and (kept := recentre_map(mask, frame).data.sum() / max(mask.data.sum(), 1e-9)) < 1 - 1e-6:
        warnings.warn(f"--box {frame.box}: cuts off {1 - kept:.1%} of the mask: use a larger box", stacklevel=3)
    if frame.box <= frame.original_box and (far := np.mean(share < 1)) > 0:
        warnings.warn(
            f"{far:.0%} of the images do not cover the new box (the worst covers {share.min():.0%} of it): the rest is "
            "filled with noise of the same spectrum; to avoid this, extract the particles again from the micrographs",
            stacklevel=3,
        )
    if any(group.mag_matrix != (1.0, 0.0, 0.0, 1.0) for group in particles.optics):
        warnings.warn(
            f"{particles.path}: the anisotropic magnification of the images is ignored for the new centre",
            stacklevel=3,
        )


def needed_box(particles: Particles, frame: Recentring, diameter_A: float, resolution_A: float) -> int:
    """Return the smallest even box that holds a body of diameter_A, delocalised by the CTF, to resolution_A."""
    sizes = range(frame.box + frame.box % 2, 8 * frame.original_box, 2)
    return next((n for n in sizes if ctf_delocalisation_limit_A(particles, n, diameter_A) <= resolution_A), sizes[-1])


def _check_grids(particles: Particles, maps: dict[str, Volume]) -> None:
    """Raise InputError for a map with another box or voxel size than the particles."""
    for name, volume in maps.items():
        what = "mask" if name == "mask.mrc" else "map"
        if mismatch := grid_mismatch(volume, particles.box, particles.pixel_size_A, what, "the particles'"):
            raise InputError(mismatch)
