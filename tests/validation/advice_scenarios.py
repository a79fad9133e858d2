"""Refinements with something wrong in each, and sound ones: what advice is held against.

A particle of two bodies, of which one turns about a hinge. Every scenario draws its particle, motion, noise and, within
what is reasonable, its settings anew from its seed; a fault is then made in the settings, the mask, the half maps or
the particles.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.io import mrc_maps
from lrcore.maps.fsc import masked_fsc
from lrcore.masks import centre_of_mass, cosine_edge
from lrcore.records import HalfMaps, ImageSource, Particles, Poses, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import reconstruct
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from tests.validation.judge import from_corner

BOX, PIXEL_A = 48, 3.5
EDGE_A = 24.0
"""Of the masks: five times the resolution, but for what the box has room for."""


TILTED = Rotation.from_rotvec([0.5, -0.9, 0.4]).as_matrix()
"""Axes of a motion that are not those of the box."""


@dataclass(frozen=True)
class World:
    """A simulated data set, and the settings that fit it."""

    truth: FlexibleParticle
    job: Job
    gt_b: Volume
    rng: np.random.Generator
    backend: Backend

    def with_spec(self, **changes: Any) -> "World":
        """The same with other settings."""
        spec = RefineSpec(**{**self.job.spec.model_dump(), **changes})
        return replace(self, job=replace(self.job, spec=spec))

    def with_half_maps(self) -> "World":
        """The same with half maps that were made of the particles as they are now."""
        maps = [
            event
            for half in (1, 2)
            for event in reconstruct(self.job.particles, half, "C1", self.backend)
            if isinstance(event, Volume)
        ]
        return replace(self, job=replace(self.job, half_maps=HalfMaps(*maps)))

    def quality(self, step: Step) -> float:
        """Mean over the shells of the FSC of the map against the true body, inside the true mask."""
        return float(self.curve(step)[1:].mean())

    def curve(self, step: Step) -> Float64:
        """FSC of the map against the true body, inside the true mask."""
        both = 0.5 * (step.half_maps.first.data + step.half_maps.second.data)
        mask = mrc_maps.read_volume(self.truth.map("mask_b")).data
        return masked_fsc(both, self.gt_b.data, mask)


@dataclass(frozen=True)
class Scenario:
    """A fault at one severity. expected: the findings of which one is right; empty for a sound run."""

    fault: str
    severity: str
    expected: frozenset[str]
    data: dict[str, Any]
    make: Callable[[World], World]

    @property
    def sound(self) -> bool:
        """Nothing is wrong here."""
        return not self.expected


def world(folder: Path, seed: int, data: dict[str, Any], backend: Backend) -> World:
    """A data set whose settings fit: the fulcrum at the hinge, priors as wide as the motion to a fifth or so."""
    rng = np.random.default_rng([seed, 77])
    turn, slide = data.get("hinge_sd_deg", rng.uniform(3.5, 6.5)), data.get("hinge_shift_sd_A", rng.uniform(0.8, 2.0))
    chosen: dict[str, Any] = {
        "n": int(rng.integers(700, 1000)), "snr": float(rng.uniform(0.07, 0.15)), "bfactor_A2": 200.0,
        **data, "hinge_sd_deg": turn, "hinge_shift_sd_A": slide,
    }  # fmt: skip
    truth = simulate_flexible_particle(folder, box=BOX, pixel_size_A=PIXEL_A, seed=seed, **chosen)
    spec = RefineSpec(
        fulcrum=from_corner(truth.phantom.fulcrum_A, BOX, PIXEL_A),
        rotation_prior_sd_deg=round(float(np.sqrt(np.mean(np.square(turn)))) * rng.uniform(0.8, 1.25), 2),
        shift_prior_sd_A=round(float(np.hypot(slide, 0.6)) * rng.uniform(0.8, 1.25), 2),
    )
    soft = with_edge(mrc_maps.read_volume(truth.map("mask_b")).data, EDGE_A / PIXEL_A)
    job = Job(truth.particles, Volume(soft, PIXEL_A), spec)
    return World(truth, job, mrc_maps.read_volume(truth.map("gt_b")), rng, backend)


# --- the faults ---


def _spec(**changes: Any) -> Callable[[World], World]:
    return lambda world: world.with_spec(**changes)


def _fulcrum(along: float) -> Callable[[World], World]:
    """The fulcrum on the line from the hinge (0) to the middle of the body (1) and beyond."""

    def make(world: World) -> World:
        hinge = world.truth.phantom.fulcrum_A
        middle = centre_of_mass(world.job.mask.data) * PIXEL_A
        return world.with_spec(
            fulcrum=from_corner(hinge + along * (middle - hinge), BOX, PIXEL_A), shift_prior_sd_A=3.0
        )

    return make


def _mask(change: Callable[[World], npt.NDArray[np.float32]]) -> Callable[[World], World]:
    return lambda world: replace(world, job=replace(world.job, mask=Volume(change(world).astype(np.float32), PIXEL_A)))


def _sharp(voxels: float) -> Callable[[World], World]:
    """A mask of the same size with an edge of so many voxels."""
    return _mask(lambda world: with_edge(world.job.mask.data, voxels))


def with_edge(mask: Float32, voxels: float) -> Float32:
    """The mask with the same outline, where it is a half, and an edge of so many voxels."""
    from scipy.ndimage import distance_transform_edt

    inside = mask > 0.5
    outside_px = distance_transform_edt(~inside) - distance_transform_edt(inside) + 0.5
    return np.asarray(cosine_edge(outside_px + 0.5 * voxels, 0.0, voxels), dtype=np.float32)


def _ball(radius_A: float, towards: float = 0.0) -> Callable[[World], World]:
    """A ball in the body in place of the mask; `towards`: moved by so much away from the hinge, Å."""

    def make(world: World) -> npt.NDArray[np.float32]:
        middle = centre_of_mass(world.job.mask.data) * PIXEL_A
        away = middle - world.truth.phantom.fulcrum_A
        at = (middle + towards * away / np.linalg.norm(away)) / PIXEL_A
        return cosine_edge(_distance_A(at), radius_A, 18.0)

    return _mask(make)


def _distance_A(at: Float64) -> Float64:
    """How far each voxel is from a point (x, y, z), px from the box centre: Å."""
    z, y, x = np.meshgrid(*3 * (np.arange(BOX) - BOX // 2,), indexing="ij")
    return np.asarray(np.sqrt((x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2) * PIXEL_A, dtype=np.float64)


def _mask_reaching_into_rest(radius_A: float, into_A: float) -> Callable[[World], World]:
    """The mask, and a ball beyond the hinge, so far in the body that does not move."""

    def make(world: World) -> npt.NDArray[np.float32]:
        hinge = world.truth.phantom.fulcrum_A
        rest = world.truth.phantom.body_a.mean(axis=0) - hinge
        at = (hinge + into_A * rest / np.linalg.norm(rest)) / PIXEL_A
        return np.maximum(world.job.mask.data, cosine_edge(_distance_A(at) - radius_A + EDGE_A / 2, 0.0, EDGE_A))

    return _mask(make)


def _combine(*makers: Callable[[World], World]) -> Callable[[World], World]:
    def make(world: World) -> World:
        for one in makers:
            world = one(world)
        return world

    return make


def _flipped(axes: tuple[int, ...]) -> Callable[[World], World]:
    """Half maps mirrored along axes (of z, y, x) about the middle of the box."""

    def make(world: World) -> World:
        maps = world.with_half_maps().job.half_maps
        assert maps is not None
        turned = [replace(m, data=np.roll(np.flip(m.data, axes), 1, axes).copy()) for m in (maps.first, maps.second)]
        return replace(world, job=replace(world.job, half_maps=HalfMaps(*turned)))

    return make


def _magnified(by: float) -> Callable[[World], World]:
    """Half maps that are larger than the images say."""

    def make(world: World) -> World:
        maps = world.with_half_maps().job.half_maps
        assert maps is not None
        middle = np.full(3, BOX // 2)
        turned = [
            replace(m, data=affine_transform(m.data, np.eye(3) / by, middle - middle / by, order=3).astype(np.float32))
            for m in (maps.first, maps.second)
        ]
        return replace(world, job=replace(world.job, half_maps=HalfMaps(*turned)))

    return make


def _one_half_twice(world: World) -> World:
    """Half maps that share half of their noise: both had the same images in."""
    maps = world.with_half_maps().job.half_maps
    assert maps is not None
    a, b = maps.first.data, maps.second.data
    both = HalfMaps(replace(maps.first, data=0.75 * a + 0.25 * b), replace(maps.second, data=(0.25 * a + 0.75 * b)))
    return replace(world, job=replace(world.job, half_maps=both))


def _copies(share: float) -> Callable[[World], World]:
    """Particles picked a second time, some pixels aside, into the other half set."""

    def make(world: World) -> World:
        particles, rng = world.job.particles, world.rng
        images = _read_stack(particles)
        rows = np.sort(rng.choice(len(particles), int(share * len(particles)), replace=False))
        by = rng.integers(-2, 3, (len(rows), 2))
        again = np.stack([np.roll(images[row], tuple(step), (0, 1)) for row, step in zip(rows, by, strict=True)])
        path = particles.path.with_name("copies.mrcs")
        _write_stack(path, np.concatenate([images, again]), PIXEL_A)
        return replace(world, job=replace(world.job, particles=_with_copies(particles, rows, by, path)))

    return make


def _read_stack(particles: Particles) -> npt.NDArray[np.float32]:
    import mrcfile

    with mrcfile.open(particles.images.stacks[0], permissive=True) as file:
        return np.array(file.data, dtype=np.float32)


def _write_stack(path: Path, images: npt.NDArray[np.float32], pixel_size_A: float) -> None:
    import mrcfile

    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images.astype(np.float32))
        file.voxel_size = pixel_size_A


def _with_copies(particles: Particles, rows: npt.NDArray[np.int64], by: npt.NDArray[np.int64], path: Path) -> Particles:
    """A content that moves by s pixels has an origin less by s: p = (A x)_xy − o."""
    n, m = len(particles), len(rows)
    both = particles.select(np.concatenate([np.arange(n), rows]))
    origin = both.poses.origin_A.copy()
    origin[n:] -= by[:, ::-1] * PIXEL_A
    half = both.half.copy()
    half[n:] = 3 - half[n:]
    images = ImageSource((path,), np.zeros(n + m, np.int32), np.arange(n + m), np.ones(n + m, np.float32))
    uid = np.arange(1, n + m + 1, dtype=np.uint64)
    return replace(both, uid=uid, half=half, poses=Poses(both.poses.rotation, origin), images=images)


def _misplaced(offset_A: tuple[float, float], share: float = 1.0) -> Callable[[World], World]:
    """Origins that are off by the same vector in some images; the half maps are from before."""

    def make(world: World) -> World:
        world = world.with_half_maps()
        particles = world.job.particles
        off = (world.rng.uniform(size=len(particles)) < share)[:, None] * np.array(offset_A)
        moved = Poses(particles.poses.rotation, particles.poses.origin_A + off)
        return replace(world, job=replace(world.job, particles=replace(particles, poses=moved)))

    return make


def _displaced(offset_A: float) -> Callable[[World], World]:
    """Particles recentred on a point that lies aside of the map's, in one direction."""

    def make(world: World) -> World:
        world = world.with_half_maps()
        particles = world.job.particles
        direction = world.rng.normal(size=3)
        point = offset_A * direction / np.linalg.norm(direction)
        moved = Poses(particles.poses.rotation, particles.poses.origin_A + (particles.poses.rotation @ point)[:, :2])
        return replace(world, job=replace(world.job, particles=replace(particles, poses=moved)))

    return make


def _unchanged(world: World) -> World:
    return world


def scenarios() -> tuple[Scenario, ...]:
    """The table: faults at several severities, and sound runs."""

    def fault(name: str, severity: str, expected: str, make: Callable[[World], World], **data: Any) -> Scenario:
        return Scenario(name, severity, frozenset(expected.split()), data, make)

    return (
        fault("rotation extent", "3° for 5°", "at_rotation_extent", _spec(rotation_extent_deg=3), hinge_sd_deg=5.0),
        fault("rotation extent", "7° for 6°", "at_rotation_extent", _spec(rotation_extent_deg=7), hinge_sd_deg=6.0),
        fault("shift extent", "2 Å for 3 Å", "at_shift_extent", _spec(shift_extent_A=2), hinge_shift_sd_A=3.0),
        fault("shift extent", "3 Å for 3 Å", "at_shift_extent", _spec(shift_extent_A=3), hinge_shift_sd_A=3.0),
        fault("fulcrum", "the middle of the mask", "fulcrum_off", _fulcrum(1.0), hinge_sd_deg=6.0),
        fault("fulcrum", "the other side of the body", "fulcrum_off", _fulcrum(2.0)),
        fault("rotation prior tight", "1.5° for 5°", "rotation_prior_tight", _spec(rotation_prior_sd_deg=1.5),
              hinge_sd_deg=5.0),
        fault("rotation prior tight", "2° for 6°", "rotation_prior_tight", _spec(rotation_prior_sd_deg=2),
              hinge_sd_deg=6.0),
        fault("shift prior tight", "0.6 Å for 3 Å", "shift_prior_tight", _spec(shift_prior_sd_A=0.6),
              hinge_shift_sd_A=3.0),
        fault("rotation prior wide", "15° for 3°", "rotation_prior_wide", _spec(rotation_prior_sd_deg=15),
              hinge_sd_deg=3.0),
        fault("shift prior wide", "8 Å for 1 Å", "shift_prior_wide", _spec(shift_prior_sd_A=8), hinge_shift_sd_A=1.0),
        fault("one width for all axes", "8° about one, 0.5°", "prior_uneven", _unchanged,
              hinge_sd_deg=(8.0, 0.5, 0.5), hinge_axes=TILTED),
        fault("one width for all axes", "6° about one, 2°", "prior_uneven", _unchanged,
              hinge_sd_deg=(6.0, 2.0, 2.0), hinge_axes=TILTED),
        fault("initial low-pass", "40 Å", "initial_lowpass", _spec(initial_lowpass_A=40)),
        fault("initial low-pass", "60 Å", "initial_lowpass", _spec(initial_lowpass_A=60)),
        fault("resolution limit", "20 Å", "resolution_limit", _spec(max_align_resolution_A=20)),
        fault("mask edge", "1 voxel", "mask_edge", _sharp(1.0)),
        fault("mask edge", "3 voxels", "mask_edge", _sharp(3.0)),
        fault("mask too small", "a ball of 15 Å", "mask_small", _ball(12.0, 6.0)),
        fault("mask too small", "a ball of 18 Å, aside", "mask_small", _ball(18.0, 12.0)),
        fault("overfitting", "no prior, 40°, small mask", "overfitting",
              _combine(_ball(10.0), _spec(prior="none", rotation_extent_deg=40, shift_extent_A=10)), snr=0.04),
        fault("overfitting", "no prior, 30°, few particles", "overfitting",
              _spec(prior="none", rotation_extent_deg=30, shift_extent_A=12), snr=0.02, n=500),
        fault("drift", "re-centred, no prior", "drift_of_rotations drift_of_shifts",
              _spec(prior="none", recenter_rotations=True, recenter_shifts=True), snr=0.04),
        fault("drift", "re-centred, wide prior", "drift_of_rotations drift_of_shifts",
              _spec(rotation_prior_sd_deg=15, shift_prior_sd_A=6, recenter_rotations=True, recenter_shifts=True),
              snr=0.03),
        fault("halves share images", "a quarter", "halves_share", _copies(0.25)),
        fault("halves share images", "all", "halves_share", _copies(1.0)),
        fault("halves share images", "half maps only", "half_maps_share", _one_half_twice),
        fault("other hand", "mirrored along z", "other_hand", _flipped((0,))),
        fault("other hand", "mirrored through a point", "other_hand", _flipped((0, 1, 2))),
        fault("other magnification", "4 % too large", "other_scale", _magnified(1.04)),
        fault("other magnification", "5 % too small", "other_scale", _magnified(0.95)),
        fault("recentred badly", "5 Å in the image", "off_centre", _misplaced((4.0, -3.0))),
        fault("recentred badly", "half a pixel", "off_centre", _misplaced((1.75, 1.75))),
        fault("recentred badly", "5 Å in the map", "off_centre", _displaced(5.0)),
        fault("mask holds what stays", "a third of what it holds", "mask_still", _mask_reaching_into_rest(24.0, 22.0)),
        fault("mask holds what stays", "half of it", "mask_still", _mask_reaching_into_rest(30.0, 30.0)),
    )  # fmt: skip


def sound_scenarios() -> tuple[Scenario, ...]:
    """Runs in which nothing is wrong."""

    def well(severity: str, make: Callable[[World], World] = _unchanged, **data: Any) -> Scenario:
        return Scenario("sound", severity, frozenset(), data, make)

    return (
        well("as it comes"),
        well("few particles", n=400),
        well("many particles", n=2000),
        well("noisy", snr=0.04),
        well("clean", snr=0.3),
        well("little motion", hinge_sd_deg=2.5),
        well("a little uneven", hinge_sd_deg=(5.0, 4.0, 3.5), hinge_axes=TILTED),
        well("much motion", hinge_sd_deg=9.0),
        well("slides", hinge_shift_sd_A=3.0),
        well("half maps given", World.with_half_maps),
        well("non-uniform", _spec(non_uniform=True)),
        well("dynamic mask", _spec(mask_mode="dynamic", dynamic_mask_start_A=15)),
        well("shifts re-centred", _spec(recenter_shifts=True)),
        well("two optics groups", groups=2),
    )
