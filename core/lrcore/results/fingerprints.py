"""Fingerprint the inputs of a run, so that a resumed run can verify that they are unchanged."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from lrcore.records import Volume
from lrcore.refinement.job import Job

PACKAGES = ("lrwidgets", "numpy", "scipy", "numba", "xarray", "zarr")
"""Packages whose versions are stored with a run."""


def package_versions() -> dict[str, str]:
    """Return the versions of this package and of those that the results depend on, name → version."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def input_fingerprints(job: Job) -> dict[str, Any]:
    """Return path, size and BLAKE2b digest of the particles, mask, half maps and images of a job.

    The digest is of the content that was read (metadata as arrays, maps as voxels), so that a moved file still matches.
    For images it covers the name, the size and the first kilobyte of every stack.

    Parameters
    ----------
    job : the job

    Returns
    -------
    dict
        Input ("particles", "mask", "images", "half_map_1", "half_map_2") → its fingerprint.
    """
    fingerprints = {
        "particles": _fingerprint(job.particles.path, _particle_digest(job)),
        "mask": volume_fingerprint(job.mask),
        "images": {"stacks": len(job.particles.images.stacks), "digest": _stack_digest(job.particles.images.stacks)},
    }
    if job.half_maps is not None:
        halves = {"half_map_1": job.half_maps.first, "half_map_2": job.half_maps.second}
        fingerprints |= {name: volume_fingerprint(volume) for name, volume in halves.items()}
    return fingerprints


def volume_fingerprint(volume: Volume) -> dict[str, Any]:
    """Return path, size and digest of one map or mask."""
    return _fingerprint(volume.path, _digest(volume.data, volume.pixel_size_A))


def _fingerprint(path: Path | None, digest: str) -> dict[str, Any]:
    """Return path, size and digest; the size is None if there is no such file."""
    if path is None or not path.is_file():
        return {"path": None if path is None else str(path), "size": None, "digest": digest}
    return {"path": str(path.absolute()), "size": path.stat().st_size, "digest": digest}


def _digest(*parts: Any) -> str:
    """Return the BLAKE2b digest of arrays (by their bytes) and other values (by their repr)."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else repr(part).encode())
    return total.hexdigest()


def _particle_digest(job: Job) -> str:
    """Return the digest of the particles' metadata."""
    p = job.particles
    arrays = (p.uid, p.half, p.group, p.poses.rotation, p.poses.origin_A, p.defocus_A, p.defocus_angle_rad)
    more = (p.phase_shift_rad, p.bfactor_A2, p.scale, p.images.stack, p.images.index, p.images.sign)
    return _digest(*arrays, *more, p.optics)


def _stack_digest(stacks: Sequence[Path]) -> str:
    """Return the digest of name, size and first kilobyte of each stack that exists."""
    parts: list[Any] = []
    for path in stacks:
        if path.is_file():
            with path.open("rb") as file:
                parts += [path.name, path.stat().st_size, file.read(1024)]
    return _digest(*parts)
