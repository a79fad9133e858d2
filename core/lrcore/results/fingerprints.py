"""Fingerprints: what a run was made from, so that a resumed one is sure to go on with the same."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from lrcore.records import Volume
from lrcore.refinement.job import Job

PACKAGES = ("lrwidgets", "numpy", "scipy", "numba", "xarray", "zarr")
"""The packages whose versions are written down."""


def package_versions() -> dict[str, str]:
    """Versions of this package and of those the numbers depend on."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def input_fingerprints(job: Job) -> dict[str, Any]:
    """What the job works on: for particles, mask, half maps and images the path, size and a BLAKE2b digest.

    The digest is of what was read (metadata as arrays, maps as voxels), so that a moved file is still the same;
    of the images it covers names, sizes and the first kilobyte of every stack.
    """
    found = {
        "particles": _fingerprint(job.particles.path, _particle_digest(job)),
        "mask": volume_fingerprint(job.mask),
        "images": {"stacks": len(job.particles.images.stacks), "digest": _stack_digest(job.particles.images.stacks)},
    }
    if job.half_maps is not None:
        halves = {"half_map_1": job.half_maps.first, "half_map_2": job.half_maps.second}
        found |= {name: volume_fingerprint(volume) for name, volume in halves.items()}
    return found


def volume_fingerprint(volume: Volume) -> dict[str, Any]:
    """Path, size and digest of one map or mask."""
    return _fingerprint(volume.path, _digest(volume.data, volume.pixel_size_A))


def _fingerprint(path: Path | None, digest: str) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {"path": None if path is None else str(path), "size": None, "digest": digest}
    return {"path": str(path.absolute()), "size": path.stat().st_size, "digest": digest}


def _digest(*parts: Any) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else repr(part).encode())
    return total.hexdigest()


def _particle_digest(job: Job) -> str:
    p = job.particles
    arrays = (p.uid, p.half, p.group, p.poses.rotation, p.poses.origin_A, p.defocus_A, p.defocus_angle_rad)
    more = (p.phase_shift_rad, p.bfactor_A2, p.scale, p.images.stack, p.images.index, p.images.sign)
    return _digest(*arrays, *more, p.optics)


def _stack_digest(stacks: Sequence[Path]) -> str:
    parts: list[Any] = []
    for path in stacks:
        if path.is_file():
            with path.open("rb") as file:
                parts += [path.name, path.stat().st_size, file.read(1024)]
    return _digest(*parts)
