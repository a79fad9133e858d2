"""Under a symmetry, and expanded in C1: one and the same refinement; so are recentred ones and those before."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.imaging.grids import ift
from lrcore.imaging.rotations import rotation_exp
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.masks import centre_of_mass
from lrcore.particles.recentring import (
    recentre_images,
    recentre_map,
    recentre_particles,
    recentring_at,
    undo_pose_recentring,
)
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrcore.records import HalfMaps, Particles, Poses, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.simulation.data_set import make_particles, random_rotations, simulate_flexible_particle, soft_mask
from lrcore.simulation.images import noise_ft, project, write_stack
from lrcore.simulation.phantom import Phantom, SimulatedMotion, make_two_body_phantom
from lrcore.testing import rotation_error_deg, shift_error_A
from tests.validation.judge import load_case, print_measurement, refine

PIXEL, BOX = 3.0, 64
BFACTOR_A2 = 120.0


@dataclass(frozen=True)
class Symmetric:
    """Simulated images of a symmetric particle with errors of their poses, the true ones, and a mask of it."""

    particles: Particles
    truth: Poses
    mask: Volume


def symmetric_particle(folder: Path, group: str, n: int, radius_A: float, offset_A: float, snr: float) -> Symmetric:
    """Images of copies of a small body at every operator of the group, its middle `offset_A` from the centre."""
    folder.mkdir(exist_ok=True)
    body = make_two_body_phantom(3, radius_A, radius_A).body_b
    away = np.array([0.8, 0.45, 0.4]) / np.linalg.norm([0.8, 0.45, 0.4]) * offset_A
    one = body - body.mean(axis=0) + away
    atoms = (symmetry_operators(group) @ one.T).transpose(0, 2, 1).reshape(-1, 3)
    rng = np.random.default_rng([5, n])
    truth = Poses(random_rotations(n, rng), rng.normal(0, 4, (n, 2)))
    wrong = Poses(
        truth.rotation @ rotation_exp(np.radians(rng.normal(0, 2.0, (n, 3)))),
        truth.origin_A + rng.normal(0, 1.5, (n, 2)),
    )
    particles = make_particles(folder, wrong, BOX, PIXEL, (8000.0, 15000.0), 1, rng)
    still, whole = (
        SimulatedMotion(np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(3)),
        Phantom(atoms, np.zeros((0, 3)), np.zeros(3)),
    )
    first = next(project(whole, particles, truth, still, BFACTOR_A2))
    gain = np.sqrt(snr / ift(first, BOX, 2).var(axis=(1, 2)).mean())
    signal, hum = project(whole, particles, truth, still, BFACTOR_A2), noise_ft(particles, "coloured", rng)
    write_stack(particles, (gain * a + b for a, b in zip(signal, hum, strict=True)), False)
    return Symmetric(particles, truth, Volume(soft_mask(atoms, BOX, PIXEL), PIXEL))


def error_deg(found: Poses, truth: Poses, group: str) -> np.ndarray:
    """Rotation error up to the symmetry: (n,)."""
    turned = [
        rotation_error_deg(replace(found, rotation=found.rotation @ turn), truth) for turn in symmetry_operators(group)
    ]
    return np.min(turned, axis=0)


@pytest.mark.parametrize(
    ("group", "n", "radius_A", "offset_A", "snr"), [("D2", 90, 20, 32, 0.05), ("O", 60, 13, 48, 0.02)]
)
def test_symmetric_and_expanded_refinements_are_one(
    group: str, n: int, radius_A: float, offset_A: float, snr: float, backend: Backend, tmp_path: Path
) -> None:
    made = symmetric_particle(tmp_path / group, group, n, radius_A, offset_A, snr)
    spec = RefineSpec(max_iterations=2)
    first, under = refine(Job(made.particles, made.mask, spec.model_copy(update={"symmetry": group})), backend)
    copies = expand_symmetry(made.particles, group)
    start, alone = refine(Job(copies, made.mask, spec), backend)
    at = {name: step.fsc["masked"].resolution_A() for name, step in (("0", first), ("sym", under), ("C1", alone))}
    none = refine(Job(made.particles, made.mask, spec), backend)[1].fsc["masked"].resolution_A()
    errors = [np.median(error_deg(p, made.truth, group)) for p in (made.particles.poses, under.expectation.poses)]
    m = len(symmetry_operators(group))
    truth = Poses(np.repeat(made.truth.rotation, m, axis=0), np.repeat(made.truth.origin_A, m, axis=0))
    errors.append(np.median(error_deg(alone.expectation.poses, truth, group)))
    print_measurement(
        f"{group}, {n} particles: {at['0']:.2f} → {at['sym']:.2f} Å; {len(copies)} expanded in C1: {at['C1']:.2f} Å"
    )
    print_measurement(
        f"without symmetry: {none:.2f} Å; rotation error {errors[0]:.2f}° → {errors[1]:.2f}°, expanded {errors[2]:.2f}°"
    )
    assert start.fsc["masked"].resolution_A() == pytest.approx(at["0"], rel=1e-3)
    assert at["sym"] > 1.05 * 2 * PIXEL  # not where every FSC ends
    assert at["C1"] == pytest.approx(at["sym"], rel=0.02)
    assert at["sym"] < min(0.97 * at["0"], 0.9 * none)
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] == pytest.approx(errors[1], rel=0.1)


@pytest.mark.parametrize(("box", "far"), [(128, 0.02), (160, 0.03), (96, 0.045)])
def test_a_recentred_refinement_is_the_same(box: int, far: float, backend: Backend, tmp_path: Path) -> None:
    """One iteration, the true map as reference in both. The smallest box cuts off what the CTF spreads.

    far: bound of 95 % of the particles, in degrees.
    """
    simulate_flexible_particle(
        tmp_path,
        n=60,
        box=128,
        pixel_size_A=3.0,
        seed=4,
        snr=2.0,
        hinge_sd_deg=2.0,
        noise="white",
        radius_a_A=30.0,
        radius_b_A=24.0,
        bfactor_A2=150.0,
    )
    case, spec = load_case(tmp_path), RefineSpec(max_iterations=1)
    whole = case.gt_full
    frame = recentring_at(centre_of_mass(case.mask.data) * whole.pixel_size_A, box, 128, whole.pixel_size_A)
    (tmp_path / "new").mkdir()
    table, stack = tmp_path / "new" / "p.star", tmp_path / "new" / "p.mrcs"
    moved, cut = recentre_particles(case.particles, frame, table, stack)
    write_image_stack(stack, len(moved), box, frame.pixel_size_A, recentre_images(case.particles, frame, cut))
    jobs = [
        Job(case.particles, case.mask, spec, HalfMaps(whole, whole)),
        Job(moved, recentre_map(case.mask, frame), spec, HalfMaps(*[recentre_map(whole, frame)] * 2)),
    ]
    found = [refine(job, backend)[1].expectation for job in jobs]
    here, back = found[0].poses, undo_pose_recentring(found[1].poses, frame, cut)
    turn, shift = rotation_error_deg(here, back), shift_error_A(here, back, frame.point_A)
    sd = np.degrees(np.sqrt(np.diagonal(found[0].covariance, axis1=1, axis2=2)[:, :3])).mean()
    worst = f"95 %: {np.quantile(turn, 0.95):.3f}° and {np.quantile(shift, 0.95):.4f} Å"
    print_measurement(f"box 128 → {box}: median {np.median(turn):.4f}° and {np.median(shift):.4f} Å, {worst}")
    print_measurement(f"the poses' own SD: {sd:.2f}° an axis")
    assert len(np.unique(cut, axis=0)) > 30
    assert np.median(turn) < 0.02
    assert np.quantile(turn, 0.95) < far
    assert np.quantile(shift, 0.95) < 0.02
