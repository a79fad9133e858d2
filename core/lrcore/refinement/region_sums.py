"""Correlate images at their input poses with the density inside and outside a mask, and with wrong models of it.

An image X of one half set is compared with slices S_in and S_out of the *other* half map, each filtered by the FSC of
its region, times the CTF C of the image. Sums over the samples of each shell are kept for every image. In a wrong model
one part is replaced: the map by a mirror image, the pose by the mean of two, of which one is another image's, or the
CTF by its absolute value, by none, or by the mean of many.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.records import Particles
from lrcore.refinement.input_pose_slices import correlate_at_input_poses, slices_at_input_poses

RESOLUTION_A = 10.0
"""Finest resolution that is compared, Å."""
FIRST_SHELL = 2
"""First shell that is compared: the mean of an image and its slopes belong to the background."""
MIRRORS = {
    "along x": np.diag([-1.0, 1.0, 1.0]),
    "along y": np.diag([1.0, -1.0, 1.0]),
    "along z": np.diag([1.0, 1.0, -1.0]),
    "through the middle of the box": -np.eye(3),
}
"""Reflections of a map."""
AS_GIVEN, OTHER_POSE = "as given", "at another pose"
WRONG_CTFS = ("without the sign of the CTF", "without a CTF", "with the mean CTF of many images")
"""Names of models: the right one, one of another pose, and those of another CTF; the others are those of `MIRRORS`."""


@dataclass(frozen=True)
class RegionSums:
    """Sums per image and shell: (m, K) each, of valid images.

    Attributes
    ----------
    inside, outside : Re X* C S
    inside_power, outside_power : C² |S|²
    cross : C² Re S_in* S_out
    image_power : |X|²
    samples : (K,) Fourier samples of one image
    """

    inside: Float64
    outside: Float64
    inside_power: Float64
    outside_power: Float64
    cross: Float64
    image_power: Float64
    samples: Float64

    def total(self) -> "RegionSums":
        """Return the sums over all images, as those of a single one."""
        return self._each(lambda values: values.sum(axis=0, keepdims=True))

    def select(self, rows: npt.NDArray[Any]) -> "RegionSums":
        """Return the sums of some images."""
        return self._each(lambda values: values[rows])

    def fit(self, inside: float, outside: float | Float64) -> tuple[Float64, Float64]:
        """Return a and b of the model inside · S_in + outside · S_out, summed over images: (K,) each.

        outside: one number, or one for each shell (K,).
        """
        dot = inside * self.inside + outside * self.outside
        power = inside**2 * self.inside_power + outside**2 * self.outside_power + 2 * inside * outside * self.cross
        return dot.sum(axis=0), power.sum(axis=0)

    def noise(self) -> Float64:
        """Return the power per sample that S_in and S_out leave, each with its own amplitude: (K,)."""
        total = self.image_power.sum(axis=0)
        left = np.maximum(total - self.explained(), 1e-3 * total)
        return np.asarray(left / np.maximum(len(self.inside) * self.samples, 1), np.float64)

    def explained(self) -> Float64:
        """Return the power that S_in and S_out explain, each with its own amplitude: (K,)."""
        a, b, c = self.inside_power.sum(axis=0), self.outside_power.sum(axis=0), self.cross.sum(axis=0)
        x, y = self.inside.sum(axis=0), self.outside.sum(axis=0)
        determinant = a * b - c**2
        power = np.divide(
            b * x**2 + a * y**2 - 2 * c * x * y,
            determinant,
            out=np.divide(x**2, a, out=np.zeros_like(x), where=a > 0),
            where=determinant > 1e-6 * np.maximum(a * b, 1e-300),
        )
        return np.asarray(power, np.float64)

    def _each(self, change: Any) -> "RegionSums":
        """Return the sums with a function applied to each array of images."""
        return replace(self, **{f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "samples"})


def finest_shell(particles: Particles) -> int:
    """Return the last shell in which images and maps are compared."""
    n = particles.box
    limit = min(int(n * particles.pixel_size_A / RESOLUTION_A), int((n - 1) // 2 / largest_magnification(particles)))
    return max(limit, FIRST_SHELL + 1)


def region_sums(
    particles: Particles, volumes: list[FourierVolume], rows: npt.NDArray[np.int64], backend: Backend
) -> Generator[int, None, dict[str, RegionSums]]:
    """Return the sums of images for each model, by name, the one as given first.

    Parameters
    ----------
    particles : all particles, at their input poses
    volumes : FTs of the other half map inside and outside the mask
    rows : (m,) images to correlate
    backend : where the kernels run

    Yields
    ------
    int
        Number of images of each batch.
    """
    samples = half_plane(particles.box, (finest_shell(particles),))
    shell = samples.shell
    number = np.bincount(shell)[FIRST_SHELL:].astype(np.float64)
    partner = np.arange(len(particles))
    shuffled = np.random.default_rng(0).permutation(rows)
    partner[shuffled] = np.roll(shuffled, 1)

    def work(batch: Batch) -> tuple[int, dict[str, Float64]]:
        models = _models(batch, particles, volumes, partner, samples, backend)
        return len(batch.rows), {
            name: _batch_sums(each, particles, planes, samples, backend) for name, each, planes in models
        }

    parts: list[dict[str, Float64]] = []
    for count, part in map_batches(particles, rows, backend, work):
        parts.append(part)
        yield count
    kept = slice(FIRST_SHELL, FIRST_SHELL + len(number))
    every = {name: np.concatenate([part[name] for part in parts], axis=1)[:, :, kept] for name in parts[0]}
    columns = [field.name for field in fields(RegionSums)]
    return {name: RegionSums(**dict(zip(columns, (*sums, number), strict=True))) for name, sums in every.items()}


def _models(
    batch: Batch,
    particles: Particles,
    volumes: list[FourierVolume],
    partner: npt.NDArray[np.int64],
    samples: FourierSamples,
    backend: Backend,
) -> Iterator[tuple[str, Batch, list[Complex64]]]:
    """Yield the name of each model with a batch that has its CTF and its slices inside and outside the mask."""

    def planes(of: Batch, transform: Float64 | None = None) -> list[Complex64]:
        return [slices_at_input_poses(of, particles, volume, samples, backend, transform) for volume in volumes]

    own = planes(batch)
    yield AS_GIVEN, batch, own
    for name, mirror in MIRRORS.items():
        yield name, batch, planes(batch, mirror)
    others = planes(replace(batch, rows=partner[batch.rows]))
    yield OTHER_POSE, batch, [0.5 * (a + b) for a, b in zip(own, others, strict=True)]
    flat = backend.xp.ones_like(batch.ctf)
    for name, ctf in zip(WRONG_CTFS, (abs(batch.ctf), flat, flat * batch.ctf.mean(axis=0)), strict=True):
        yield name, replace(batch, ctf=ctf), own


def _batch_sums(
    batch: Batch, particles: Particles, planes: list[Complex64], samples: FourierSamples, backend: Backend
) -> Float64:
    """Return the sums of the valid images of a batch, in the order of `RegionSums`: (6, m, shells)."""
    inside, outside = planes
    a, b, both = (
        correlate_at_input_poses(batch, particles, each, samples, backend)[~batch.bad]
        for each in (inside, outside, inside + outside)
    )
    cross = 0.5 * (both[:, 1] - a[:, 1] - b[:, 1])
    return np.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1], cross, a[:, 2]])
