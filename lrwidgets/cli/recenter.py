"""The command recenter: particles, maps and mask together onto a point and into another box, and back."""

import warnings
from argparse import Namespace
from dataclasses import dataclass, replace

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import is_float16
from lrcore.io.paths import create_files_or_clean_up
from lrcore.masks import centre_of_mass, farthest_voxel_distance, validate_mask
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
from lrcore.refinement.parameters import FULCRUM_PATTERN, fulcrum_point
from lrwidgets.cli.job_folder import fill_from_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.session.loading import read_half_maps, table_suffix
from lrwidgets.session.session import Session

HELD_PX = 3.0
"""Signal as fine as this many pixels should stay in the box."""


@dataclass(frozen=True)
class _RecentringInput:
    """What is to be moved. maps: by the file name that each gets."""

    particles: Particles
    mask: Volume | None
    maps: dict[str, Volume]


def recenter(arguments: Namespace) -> None:
    """Write particles, maps and mask about another point and in another box, or as they were before that."""
    if arguments.back and (arguments.point is not None or arguments.box is not None):
        raise InputError("--back goes to the point and box from before: leave out --point and --box")
    fill_from_job_folder(arguments, Printer(arguments.json), *(() if arguments.back else ("half_maps", "mask")))
    given = _from_run(arguments) if arguments.particles.is_dir() else _from_files(arguments)
    suffix = table_suffix(given.particles)
    with create_files_or_clean_up(arguments.out, [f"particles{suffix}", "particles.mrcs", *given.maps]) as out:
        table = out / f"particles{suffix}"
        frame = recentring_of(given.particles)[0].inverse if arguments.back else _frame(arguments, given)
        _check_maps(given, frame)
        if arguments.back:
            moved = undo_recentring(given.particles, table, arguments.images)
        else:
            moved, cut = recentre_particles(given.particles, frame, table, out / "particles.mrcs")
            _warn(given, frame, visible_fraction(cut, frame))
            images = recentre_images(given.particles, frame, cut)
            float16 = is_float16(given.particles.images)
            write_image_stack(out / "particles.mrcs", len(moved), frame.box, frame.pixel_size_A, images, float16)
        for name, volume in given.maps.items():
            io.write_volume(out / name, recentre_map(volume, frame))
        io.write_particles(table, moved, moved.poses)
    x, y, z = frame.point
    Printer(arguments.json).report(
        f"wrote {out} ({len(moved)} particles, box {frame.original_box} → {frame.box}, "
        f"centre moved by {x}, {y}, {z} px)",
        "written",
        path=out,
        particles=len(moved),
        box=frame.box,
        point_px=frame.point,
        point_A=frame.point_A,
    )


def _from_files(arguments: Namespace) -> _RecentringInput:
    a = arguments
    maps = {path.name: io.read_volume(path, a.apix) for path in a.map}
    halves = read_half_maps(tuple(map(str, a.half_maps)), a.apix)
    if halves is not None:
        maps |= {"half1.mrc": halves.first, "half2.mrc": halves.second}
    mask = None if a.mask is None else io.read_volume(a.mask, a.apix)
    if mask is not None:
        maps["mask.mrc"] = mask
    return _RecentringInput(io.read_particles(a.particles, None if a.back else a.images), mask, maps)


def _from_run(arguments: Namespace) -> _RecentringInput:
    """The last step of a run: its poses, half maps and mask."""
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


def _frame(arguments: Namespace, given: _RecentringInput) -> Recentring:
    particles, text = given.particles, arguments.point or "mask"
    centre = (0.0, 0.0, 0.0)
    if text == "mask":
        if given.mask is None:
            raise InputError("--point is missing: give it, or a --mask whose centre is meant")
        mask = validate_mask(given.mask, particles.box, particles.pixel_size_A)
        x, y, z = (float(c) for c in centre_of_mass(mask.data) * particles.pixel_size_A)
        centre = (x, y, z)
    elif text != "box" and not FULCRUM_PATTERN.match(text):
        raise InputError(f"--point {text}: write mask, box, 'x, y, z px' or 'x, y, z A' (from the corner of the box)")
    elif text.rstrip().endswith("map") and not given.maps:
        raise InputError(f"--point {text}: is in the frame of a map, so give --map, --half-maps or --mask too")
    origin = next((volume.header_origin_A for volume in given.maps.values()), (0.0, 0.0, 0.0))
    point = fulcrum_point(text, particles.box, particles.pixel_size_A, centre, origin)
    return recentring_at(point, arguments.box or particles.box, particles.box, particles.pixel_size_A)


def _warn(given: _RecentringInput, frame: Recentring, share: np.ndarray) -> None:
    """Warn of what a box is too small for, and of images that do not reach over it."""
    particles, mask = given.particles, given.mask
    centre = np.array(frame.point)
    diameter = (
        2 * farthest_voxel_distance(mask.data, centre) * frame.pixel_size_A
        if mask is not None and mask.data.any()
        else 0.0
    )
    finest, wanted = ctf_delocalisation_limit_A(particles, frame.box, diameter), HELD_PX * frame.pixel_size_A
    if frame.box < frame.original_box and finest > max(
        wanted, ctf_delocalisation_limit_A(particles, frame.original_box, diameter)
    ):
        what = f"to {finest:.1f} A only" if np.isfinite(finest) else "at no resolution"
        warnings.warn(
            f"--box {frame.box}: holds what the CTF spreads of a region of {diameter:.0f} A {what}; finer signal is "
            f"cut off or wraps around: take {needed_box(particles, frame, diameter, wanted)} for {wanted:.1f} A",
            stacklevel=3,
        )
    if mask is not None and (kept := recentre_map(mask, frame).data.sum() / max(mask.data.sum(), 1e-9)) < 1 - 1e-6:
        warnings.warn(f"--box {frame.box}: cuts off {1 - kept:.1%} of the mask: take a larger one", stacklevel=3)
    if frame.box <= frame.original_box and (far := np.mean(share < 1)) > 0:
        warnings.warn(
            f"{far:.0%} of the images do not reach over the new box (the worst shows {share.min():.0%} of it): "
            "the rest is filled with noise like theirs; extract anew from the micrographs if that matters",
            stacklevel=3,
        )
    if any(group.mag_matrix != (1.0, 0.0, 0.0, 1.0) for group in particles.optics):
        warnings.warn(
            f"{particles.path}: the new centre is found without the anisotropic magnification of its images",
            stacklevel=3,
        )


def needed_box(particles: Particles, frame: Recentring, diameter_A: float, resolution_A: float) -> int:
    """The smallest even box that holds a body of `diameter_A` to `resolution_A`."""
    sizes = range(frame.box + frame.box % 2, 8 * frame.original_box, 2)
    return next((n for n in sizes if ctf_delocalisation_limit_A(particles, n, diameter_A) <= resolution_A), sizes[-1])


def _check_maps(given: _RecentringInput, frame: Recentring) -> None:
    for name, volume in given.maps.items():
        if volume.box != frame.original_box:
            what = volume.path or name
            raise InputError(
                f"{what}: is {volume.box}³ but the particles' box is {frame.original_box}: give maps of their box"
            )
