"""Measure how much of the density outside the mask is in the images, which may have been subtracted from them before.

Images X of one half set are compared at their input poses with slices of the *other* half map inside the mask, S_in,
and outside of it, S_out, each filtered by the FSC of its region. With a free amplitude s per shell,

    X = s C M + noise,  M = S_in + f exp(−B k²) S_out,   log-likelihood gain = Σ_k max(a, 0)² / (b σ²),
    a = Re X* C M,  b = C² |M|²

The fraction f of the highest likelihood is 1 for whole images, 0 where another program has subtracted the density
outside the mask, and infinite where it has subtracted the density inside. Where the poses follow the body inside the
mask, the density outside is blurred, not subtracted: it is missing at high frequencies only, which B accounts for.
Coarse shells suffice: there the signal is strongest. Programs mark subtracted images differently, or not at all, so
that what is measured decides.
"""

import warnings
from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.aberrations import largest_magnification
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.particles.subsets import spread_rows
from lrcore.records import HalfMaps, Particles, Volume
from lrcore.refinement.input_pose_slices import correlate_at_input_poses, slices_at_input_poses

IMAGES = 200
"""Images of each half set that are measured, at most."""
RESOLUTION_A = 10.0
"""Finest resolution that is compared, Å."""
FIRST_SHELL = 2
"""First shell that is compared: the mean of an image and its slopes belong to the background."""
ANGLES = np.radians(np.arange(-20.0, 90.1, 0.5))
"""Values of arctan f that are tried."""
BLURS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Values of B k² at the finest shell that are tried."""
MIN_GAIN = 50.0
"""Log-likelihood by which f = 0 or f = 1 must be worse than the best f; below it the images do not tell, and f is 1."""
MIN_POWER = 0.03
"""Least power of the density outside the mask, over that inside; below it is solvent, and f is 1."""
BLURRED_ABOVE = 0.6
"""Fraction from which on density that is missing at high frequencies is blurred, not subtracted."""
MIN_AGREEMENT = 0.35
"""Least agreement at finer shells; below it images, poses and map do not belong together."""
SAME_MAP_FSC = 0.9999
"""FSC in most shells above which both half maps are one map."""
MIN_EXPLAINED = 20.0
"""Power over that of the noise that the finer shells must be expected to explain, for their comparison to mean much."""
MIN_SHELLS = 4
"""Shells that the comparison of finer and coarser ones needs."""
WHOLE_ABOVE, ABSENT_BELOW = 0.85, 0.1
"""Fractions that are taken for 1 and for 0: half maps differ from the images by their filters as much."""
INVERTED_ABOVE = 4.0
"""Fraction above which the images are without the density *inside* the mask."""
MIXED_SHARE = 0.1
"""Share of images from which on a second kind of image is reported."""
MAX_ERROR = 0.25
"""Error of the fraction of a single image, above which it is not assigned to a kind."""


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
        names = ("inside", "outside", "inside_power", "outside_power", "cross", "image_power")
        return replace(self, **{name: getattr(self, name).sum(axis=0, keepdims=True) for name in names})

    def fit(self, inside: float, outside: float | Float64) -> tuple[Float64, Float64]:
        """Return a and b of the model inside · S_in + outside · S_out, summed over images: (K,) each.

        outside: one number, or one for each shell (K,).
        """
        dot = inside * self.inside + outside * self.outside
        power = inside**2 * self.inside_power + outside**2 * self.outside_power + 2 * inside * outside * self.cross
        return dot.sum(axis=0), power.sum(axis=0)


def measure_outside_fraction(
    particles: Particles, maps: HalfMaps, mask: Volume, curve: Float64, backend: Backend
) -> Generator[int, None, tuple[float, float]]:
    """Measure the fraction of the density outside the mask that the images of each half set contain.

    Parameters
    ----------
    particles : n particles, at their input poses
    maps : half maps, on any scale
    mask : (n, n, n), 1 where density is kept
    curve : (n // 2 + 1,) FSC of the half maps in the inscribed sphere
    backend : where the kernels run

    Yields
    ------
    int
        Number of images of each batch.

    Returns
    -------
    (float, float)
        By half set: 0 where nothing of it is left, 1 where all is there or the images do not tell.

    Raises
    ------
    InputError
        When the images contain the density outside the mask, but not the one inside: the mask is the wrong way round.
    """
    both = []
    sphere = inscribed_sphere(particles.box)
    regions = [region * sphere for region in (mask.data, 1 - mask.data)]
    gains = [wiener_gain(masked_fsc(maps.first.data, maps.second.data, r, backend.threads)) for r in regions]
    for half in (1, 2):
        other = maps.half(3 - half).data
        volumes = [_filtered(other * region, gain, backend) for region, gain in zip(regions, gains, strict=True)]
        both.append((yield from _region_sums(particles, volumes, half, backend)))
    if max(fine_agreement(sums, curve) for sums in both) < MIN_AGREEMENT:
        warnings.warn(
            f"{particles.path}: the images show the map at coarse resolution only: images, poses and half maps do not "
            "seem to belong together; check the order of the images, the pixel size, and the map's handedness",
            stacklevel=2,
        )
        return 1.0, 1.0
    return _fractions(particles, mask, both)


def _fractions(particles: Particles, mask: Volume, both: list[RegionSums]) -> tuple[float, float]:
    """Return the fraction of each half set, and warn of images of two kinds. Raises as `measure_outside_fraction`."""
    fractions, mixed = [], []
    for sums in both:
        fraction = likeliest_fraction(sums)
        if fraction > INVERTED_ABOVE:
            raise InputError(
                f"{mask.path or 'mask'}: the images contain the density outside the mask, but not the density inside: "
                "the mask must be 1 on the body to refine and 0 elsewhere; this one is the wrong way round for these "
                "subtracted images"
            )
        mixed.append(second_kind(sums, fraction))
        fractions.append(1.0 if fraction > WHOLE_ABOVE else 0.0 if fraction < ABSENT_BELOW else fraction)
    if min(mixed) > MIXED_SHARE:
        warnings.warn(
            f"{particles.path}: from about {100 * np.mean(mixed):.0f} % of the images the density outside the mask has "
            "been subtracted, from the others not: refine them apart, or use images of one kind",
            stacklevel=2,
        )
    return fractions[0], fractions[1]


def likeliest_fraction(sums: RegionSums) -> float:
    """Return the fraction f of the highest likelihood, at least 0; 1 where images or map do not tell."""
    if sums.outside_power.sum() < MIN_POWER * sums.inside_power.sum():
        return 1.0
    noise, total = _noise(sums), sums.total()
    gain = np.array([[_gain(total, angle, noise, blur) for blur in BLURS] for angle in ANGLES])
    if gain.max() - min(_gain(total, 0.0, noise), _gain(total, np.pi / 4, noise)) < MIN_GAIN:
        return 1.0
    angle, blur = np.unravel_index(int(gain.argmax()), gain.shape)
    fraction = max(float(np.tan(ANGLES[angle])), 0.0)
    return 1.0 if blur > 0 and fraction > BLURRED_ABOVE else fraction


def fine_agreement(sums: RegionSums, curve: Float64) -> float:
    """Return how well images show a map at its finer shells, relative to the coarser ones: about 1, or near 0.

    The signal-to-noise ratio of an explained shell k over that of the map, k √(FSC / (1 − FSC)), is the same in all
    shells in which the half maps agree, if the images belong to the map and to the poses. NaN for too few shells or
    images.

    curve: (n // 2 + 1,) FSC of the half maps; NaN, too, for one map given twice, whose FSC says nothing.
    """
    shell = FIRST_SHELL + np.arange(len(sums.samples))
    if np.median(curve[shell]) > SAME_MAP_FSC:
        return float("nan")
    known = curve[shell] > 0.5
    last = len(known) if known.all() else int(np.argmin(known))
    if last < MIN_SHELLS:
        return float("nan")
    fsc = np.minimum(curve[shell[:last]], 0.999)
    explained = np.maximum(_explained(sums) / np.maximum(_noise(sums), 1e-300) - 1.0, 0.0)[:last]
    expected = shell[:last] * np.sqrt(fsc / (1 - fsc))
    coarse, fine = np.array_split(np.sqrt(explained) / expected, 2)
    if ((coarse.mean() * expected[-len(fine) :]) ** 2).sum() < MIN_EXPLAINED:
        return float("nan")
    return float(fine.mean() / coarse.mean())


def second_kind(sums: RegionSums, fraction: float) -> float:
    """Return the share of images without the density outside the mask among images that differ in that.

    The amplitude of S_out is fitted to each image that shows S_in. 0 if all images are of one kind, or if the error of
    a single image is too large to tell.
    """
    dot, power = sums.fit(1.0, fraction)
    scale, noise = np.divide(dot, power, out=np.zeros_like(dot), where=power > 0), _noise(sums)
    weight = np.divide(scale, noise, out=np.zeros_like(scale), where=noise > 0)
    matrix = np.empty((len(sums.inside), 2, 2))
    matrix[:, 0, 0] = sums.inside_power @ (weight * scale)
    matrix[:, 1, 1] = sums.outside_power @ (weight * scale)
    matrix[:, 0, 1] = matrix[:, 1, 0] = sums.cross @ (weight * scale)
    vector = np.stack([sums.inside @ weight, sums.outside @ weight], axis=1)
    usable = np.linalg.det(matrix) > 1e-6 * matrix[:, 0, 0] * matrix[:, 1, 1]
    if not usable.any():
        return 0.0
    amplitude = np.linalg.solve(matrix[usable], vector[usable][..., None])[..., 0]
    error = np.sqrt(0.5 * np.linalg.inv(matrix[usable])[:, 1, 1])
    seen = amplitude[(amplitude[:, 0] > 0.5) & (error < MAX_ERROR), 1]
    absent, present = seen[seen < 0.5], seen[seen >= 0.5]
    if min(len(absent), len(present)) < max(MIXED_SHARE * len(seen), 1):
        return 0.0
    return len(absent) / len(seen) if absent.mean() < 0.25 and present.mean() > 0.75 else 0.0


def _gain(sums: RegionSums, angle: float, noise: Float64, blur: float = 0.0) -> float:
    """Return the log-likelihood of f = tan(angle) and of B k² = blur at the finest shell over that of no density."""
    shell = FIRST_SHELL + np.arange(len(sums.samples))
    envelope = np.exp(-blur * (shell / shell[-1]) ** 2)
    dot, power = sums.fit(float(np.cos(angle)), float(np.sin(angle)) * envelope)
    scaled = power * noise
    return float(np.divide(np.maximum(dot, 0.0) ** 2, scaled, out=np.zeros_like(dot), where=scaled > 0).sum())


def _noise(sums: RegionSums) -> Float64:
    """Return the power per sample that S_in and S_out leave, each with its own amplitude: (K,)."""
    total = sums.image_power.sum(axis=0)
    return np.maximum(total - _explained(sums), 1e-3 * total) / np.maximum(len(sums.inside) * sums.samples, 1)


def _explained(sums: RegionSums) -> Float64:
    """Return the power that S_in and S_out explain, each with its own amplitude: (K,)."""
    a, b, c = sums.inside_power.sum(axis=0), sums.outside_power.sum(axis=0), sums.cross.sum(axis=0)
    x, y = sums.inside.sum(axis=0), sums.outside.sum(axis=0)
    determinant = a * b - c**2
    return np.divide(
        b * x**2 + a * y**2 - 2 * c * x * y,
        determinant,
        out=np.divide(x**2, a, out=np.zeros_like(x), where=a > 0),
        where=determinant > 1e-6 * np.maximum(a * b, 1e-300),
    )


def _region_sums(
    particles: Particles, volumes: list[FourierVolume], half: int, backend: Backend
) -> Generator[int, None, RegionSums]:
    """Return the sums of images of a half set. Yields the number of images of each batch.

    volumes: FTs of the other half map inside and outside the mask.
    """
    n = particles.box
    limit = min(int(n * particles.pixel_size_A / RESOLUTION_A), int((n - 1) // 2 / largest_magnification(particles)))
    samples = half_plane(n, (max(limit, FIRST_SHELL + 1),))
    rows = spread_rows(reading_order(particles, half), IMAGES)

    def work(batch: Batch) -> tuple[int, Float64]:
        return len(batch.rows), _batch_sums(batch, particles, volumes, samples, backend)

    parts = []
    for count, part in map_batches(particles, rows, backend, work):
        parts.append(part)
        yield count
    total = np.concatenate(parts, axis=1)[:, :, FIRST_SHELL:]
    cross = 0.5 * (total[5] - total[3] - total[4])
    shell = np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64)
    number = np.bincount(shell, minlength=FIRST_SHELL + total.shape[2])[FIRST_SHELL:].astype(np.float64)
    return RegionSums(total[0], total[1], total[3], total[4], cross, total[2], number[: total.shape[2]])


def _filtered(density: Float32, gain: Float64, backend: Backend) -> FourierVolume:
    """Return the FT of density, filtered."""
    array = filter_map(density, gain, backend.threads)
    return backend.volume_to_device(map_to_fourier_volume(array, (len(array) - 1) // 2, backend.threads))


def _batch_sums(
    batch: Batch, particles: Particles, volumes: list[FourierVolume], samples: FourierSamples, backend: Backend
) -> Float64:
    """Return the sums of the valid images of a batch, in the order of `RegionSums`: (6, m, shells).

    The last one is the power of S_in + S_out, in place of the cross term.
    """
    inside, outside = (slices_at_input_poses(batch, particles, volume, samples, backend) for volume in volumes)
    a, b, both = (
        correlate_at_input_poses(batch, particles, planes, samples, backend)[~batch.bad]
        for planes in (inside, outside, inside + outside)
    )
    return np.stack([a[:, 0], b[:, 0], a[:, 2], a[:, 1], b[:, 1], both[:, 1]])
