"""How much memory an iteration will take, before it begins: images, volumes, sums, metadata."""

from dataclasses import dataclass

from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import fourier_volume_shape
from lrcore.particles.image_stream import batch_size
from lrcore.refinement.job import Job

IMAGE_COPIES = 8
"""Arrays of the size of a batch that are there at a time: read ahead, spectrum, CTF, planes, residual, weights."""
MAP_COPIES = 14
"""Maps of float32 that are there at a time: half maps, mask, what lies outside, FSC and filters with their FTs."""
METADATA_BYTES = 1350
"""Of a particle: table, poses and covariances of this iteration and of the last."""
MB = 2.0**20


@dataclass(frozen=True)
class MemoryEstimate:
    """In MB. images: of a batch with what comes with it. workers: how many share the work, 0 for this process alone."""

    images_MB: float
    volumes_MB: float
    sums_MB: float
    metadata_MB: float
    workers: int = 0

    @property
    def here_MB(self) -> float:
        """Of this process."""
        alone = self.images_MB + self.volumes_MB + self.sums_MB + self.metadata_MB
        return alone if not self.workers else self.volumes_MB + 4 * self.sums_MB + self.metadata_MB

    @property
    def worker_MB(self) -> float:
        """Of each worker: images, the reference, sums, and those of another range while they are merged."""
        return self.images_MB + 3 * self.sums_MB

    def sentence(self) -> str:
        """One line."""
        parts = f"images {self.images_MB:,.0f}, maps {self.volumes_MB:,.0f}, sums {self.sums_MB:,.0f}, "
        more = f"; {self.worker_MB:,.0f} MB in each of {self.workers} workers" if self.workers else ""
        return f"memory: about {self.here_MB:,.0f} MB here ({parts}metadata {self.metadata_MB:,.0f}){more}"


def estimate_memory(job: Job, batch_bytes: int = Backend.batch_bytes, workers: int = 0) -> MemoryEstimate:
    """Of an iteration of the job, beside the program itself. batch_bytes: of the backend's images."""
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
