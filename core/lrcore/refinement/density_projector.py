"""Project a density that fills a part of the box into images, at the cost of that part and of its resolution.

The density is given on a grid of its own: a window of the box, on as many voxels as its resolution needs. The FT of a
window of D of the n voxels of the box is sampled on the grid of the window, so that its slice at k of an image is that
at k · D / n; the place of the window is a shift of the image.
"""

from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.resampling import resample_grid
from lrcore.particles.image_stream import Batch
from lrcore.records import Particles


@dataclass(frozen=True)
class DensityWindow:
    """Density in a window of the box, for both half sets; it is 0 elsewhere.

    Attributes
    ----------
    maps : (2, d, d, d) float32, by half set
    centre : (3,) float64, (x, y, z) of the origin d // 2 of the window, voxels of the box from its centre n // 2
    voxel : edge of a voxel of the window, in voxels of the box
    limit : last shell of the box in which the density is not 0
    """

    maps: Float32
    centre: Float64
    voxel: float
    limit: int

    def scaled(self, factors: Float32) -> "DensityWindow":
        """Return the density with a factor (2,) for each half set."""
        return replace(self, maps=self.maps * factors[:, None, None, None])

    def projector(self, half: int, box: int, workers: int = 1) -> "DensityProjector":
        """Return what projects the density of a half set into images of `box` pixels. workers: threads of the FFT."""
        size = self.maps.shape[-1]
        ratio = size * self.voxel / box
        limit = min(int(np.ceil(self.limit * ratio)), (size - 1) // 2)
        # The FT is a sum over voxels, of which the box has voxel³ for each of the window.
        volume = map_to_fourier_volume(self.maps[half - 1] * np.float32(self.voxel**3), limit, workers)
        return DensityProjector(volume, self.centre, ratio)

    def on_box(self, half: int, box: int) -> Float32:
        """Return the density of a half set on the grid of the box, (n, n, n)."""
        return resample_grid(self.maps[half - 1], box, 1 / self.voxel, tuple(self.centre))


@dataclass(frozen=True)
class DensityProjector:
    """FT of a density in a window of the box.

    Attributes
    ----------
    volume : of the window
    centre : (3,), see `DensityWindow`
    ratio : edge of the window over that of the box
    """

    volume: FourierVolume
    centre: Float64
    ratio: float

    def samples(self, particles: Particles) -> FourierSamples:
        """Return the samples of an image at which the density can be projected."""
        radius = min(self.volume.limit / self.ratio, (particles.box - 1) // 2)
        return half_plane(particles.box, (radius / largest_magnification(particles),))

    def to_device(self, backend: Backend) -> "DensityProjector":
        """Return the projector with its volume in the memory of the backend."""
        return replace(self, volume=backend.volume_to_device(self.volume))

    def project(
        self, batch: Batch, particles: Particles, samples: FourierSamples, backend: Backend
    ) -> tuple[Complex64, Float64]:
        """Return the slices (B, S) of a batch at its input poses, and their shifts (B, 2) in pixels.

        Parameters
        ----------
        batch : B images
        particles : all particles
        samples : S Fourier samples of an image
        backend : where the kernels run
        """
        poses = particles.poses.select(batch.rows)
        turns = magnified_rotation(poses.rotation, magnification_in_3d(particles, batch.rows))
        planes: Complex64 = backend.kernels.project_slices(self.volume, backend.to_device(turns * self.ratio), samples)
        x, y, z = self.centre  # summed one by one, so that the sums do not depend on the number of images
        seen = turns[:, :2, 0] * x + turns[:, :2, 1] * y + turns[:, :2, 2] * z
        return planes, poses.origin_A / particles.pixel_size_A - seen
