"""Estimate how much memory start and iterations will take, before they begin: images, volumes, sums and metadata."""

from dataclasses import dataclass

from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import fourier_volume_shape
from lrcore.particles.image_stream import batch_size
from lrcore.refinement.job import Job

IMAGE_COPIES = 8
"""Arrays of the size of a batch that exist at one time: images read ahead, spectrum, CTF, slices, residual, weights."""
MAP_COPIES = 14
"""Maps of float32 that exist at one time: half maps, mask, density outside, FSC and filters with their transforms."""
START_MAP_COPIES = 13
"""The same at the start: half maps, mask, scaled half maps, their FTs before and after, a mask of the particle."""
PROGRAM_MB = 380.0
"""Memory of the program with its libraries and compiled kernels."""
METADATA_BYTES = 1350
"""Bytes of a particle: table, poses and covariances of this iteration and of the last."""
MB = 2.0**20


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of the start and of an iteration in MB; but for `start_MB`, without the program itself.

    Attributes
    ----------
    images_MB : of a batch of images with everything that is computed from it
    volumes_MB : of the maps
    sums_MB : of the sums of one half map
    metadata_MB : of the table of particles
    workers : number of workers, 0 when this process works alone
    """

    images_MB: float
    volumes_MB: float
    sums_MB: float
    metadata_MB: float
    workers: int = 0

    @property
    def start_MB(self) -> float:
        """Memory of this process at the start, with the program itself."""
        maps = self.volumes_MB * START_MAP_COPIES / MAP_COPIES
        return PROGRAM_MB + self.images_MB + maps + self.metadata_MB

    @property
    def process_MB(self) -> float:
        """Memory of this process."""
        alone = self.images_MB + self.volumes_MB + self.sums_MB + self.metadata_MB
        return alone if not self.workers else self.volumes_MB + 4 * self.sums_MB + self.metadata_MB

    @property
    def worker_MB(self) -> float:
        """Memory of each worker: images, reference, sums, and the sums of another part while they are merged."""
        return self.images_MB + 3 * self.sums_MB

    def sentence(self) -> str:
        """Return the estimate as one line of text."""
        parts = f"images {self.images_MB:,.0f}, maps {self.volumes_MB:,.0f}, sums {self.sums_MB:,.0f}, "
        of_workers = f"; {self.worker_MB:,.0f} MB in each of {self.workers} workers" if self.workers else ""
        here = f"about {self.process_MB:,.0f} MB here ({parts}metadata {self.metadata_MB:,.0f})"
        return f"memory: about {self.start_MB:,.0f} MB at the start, then {here}{of_workers}"


def estimate_memory(job: Job, batch_bytes: int = Backend.batch_bytes, workers: int = 0) -> MemoryEstimate:
    """Estimate the memory of the start and of an iteration.

    Parameters
    ----------
    job : input of the refinement
    batch_bytes : bytes of the images of a batch, as the backend reads them
    workers : number of workers, 0 for this process alone

    Returns
    -------
    MemoryEstimate
        In MB.
    """
    particles, box = job.particles, job.mask.box
    images = min(batch_size(box, batch_bytes), len(particles))
    z, y, x = fourier_volume_shape(box // 2)
    return MemoryEstimate(
        IMAGE_COPIES * images * 4 * box**2 / MB,
        MAP_COPIES * 4 * box**3 / MB,
        12 * z * y * x / MB,
        METADATA_BYTES * len(particles) / MB,
        workers,
    )
