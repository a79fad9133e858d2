"""Insertion onto the Ewald sphere: nearer to the truth where the curvature matters, and with the sign of RELION's."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lrcore.compute.backend import Backend
from lrcore.imaging.grids import ift
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.io import read_volume, star_particles
from lrcore.maps.fsc import masked_fsc
from lrcore.masks import soft_sphere
from lrcore.records import Particles, Poses, Volume
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import reconstruct
from lrcore.simulation.atoms import density_of_atoms
from lrcore.simulation.data_set import make_particles, random_rotations, simulate_flexible_particle
from lrcore.simulation.images import noise_ft, project, write_stack
from lrcore.simulation.phantom import Phantom, SimulatedMotion
from lrcore.testing import fsc_against_truth, rotation_error_deg
from tests.validation.judge import load_case, mean_map, print_measurement, refine

GROUP, BFACTOR_A2 = "O", 20.0


@dataclass(frozen=True)
class Ball:
    """Images of a ball of atoms at known poses, every atom at the defocus of its height; its map; a mask of it."""

    particles: Particles
    truth: Volume
    mask: Volume


def ball(
    folder: Path,
    n: int,
    box: int,
    pixel_A: float,
    radius_A: float,
    voltage_kV: float,
    cs_mm: float,
    defocus_A: float,
    snr: float,
) -> Ball:
    """Seen with `positive` curvature, from n random sides; octahedral, so that these are enough."""
    rng = np.random.default_rng(1)
    atoms_in_part = int(500 * (radius_A / pixel_A / 50) ** 3)
    part = rng.normal(size=(atoms_in_part, 3))
    part *= radius_A * (rng.uniform(size=atoms_in_part) ** (1 / 3) / np.linalg.norm(part, axis=1))[:, None]
    atoms = (symmetry_operators(GROUP) @ part.T).transpose(0, 2, 1).reshape(-1, 3)
    poses = Poses(random_rotations(n, rng), rng.normal(0.0, 2.0, (n, 2)))
    made = make_particles(folder, poses, box, pixel_A, (0.3 * defocus_A, defocus_A), 1, rng)
    made = replace(made, optics=(replace(made.optics[0], voltage_kV=voltage_kV, cs_mm=cs_mm),))
    still = SimulatedMotion(np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(3))
    whole = Phantom(atoms, np.zeros((0, 3)), np.zeros(3))
    signal = list(project(whole, made, poses, still, BFACTOR_A2, "positive"))
    gain = np.sqrt(snr / ift(signal[0], box, 2).var(axis=(1, 2)).mean())
    hum = noise_ft(made, "white", rng)
    write_stack(made, (gain * a + b for a, b in zip(signal, hum, strict=True)), float16=False)
    star_particles.write_particles(made.path, made, poses)
    truth = (gain * density_of_atoms(atoms, box, pixel_A, BFACTOR_A2)).astype(np.float32)
    return Ball(made, Volume(truth, pixel_A), Volume(soft_sphere(box, radius_A / pixel_A + 2, 4), pixel_A))


def rebuilt(made: Ball, ewald: str, backend: Backend) -> np.ndarray:
    *_, volume = reconstruct(made.particles, None, GROUP, backend, ewald)
    assert isinstance(volume, Volume)
    return volume.data


def test_a_large_particle_at_100_kV(backend: Backend, tmp_path: Path) -> None:
    """A ball of 170 Å: in focus at its top, its bottom is half a turn of the CTF away at 2.5 Å."""
    made = ball(tmp_path, 30, 160, 1.2, 85.0, 100.0, 1.2, 14000.0, 0.1)
    found = {}
    for ewald in ("positive", "none", "negative"):
        curve = fsc_against_truth(rebuilt(made, ewald, backend), made.truth, made.mask)
        found[ewald] = curve.resolution_A(0.5)
        print_measurement(
            f"{ewald}: FSC 0.5 to the truth at {found[ewald]:.2f} Å, mean FSC {curve.value[1:].mean():.3f}"
        )
    assert found["positive"] < 0.93 * found["none"] < 0.93 * 0.93 * found["negative"]


def test_a_refinement(backend: Backend, tmp_path: Path) -> None:
    """At 15 kV, so that a particle of 100 Å is a large one: the search is flat, the map is not."""
    optics, sizes = {"voltage_kV": 15.0, "cs_mm": 0.05}, {"n": 240, "box": 72, "pixel_size_A": 1.5, "snr": 0.5}
    bodies = {"radius_a_A": 26.0, "radius_b_A": 22.0, "bfactor_A2": 30.0, "pose_error_deg": 1.0}
    simulate_flexible_particle(tmp_path, **sizes, **bodies, defocus_A=(800.0, 2500.0), optics=optics, ewald="positive")
    case, found = load_case(tmp_path), {}
    for ewald in ("positive", "none"):
        _, last = refine(case.job(RefineSpec(max_iterations=2, ewald=ewald)), backend)
        curve = fsc_against_truth(mean_map(last), case.gt_b, case.mask)
        error = np.median(rotation_error_deg(last.expectation.poses, case.truth))
        found[ewald] = curve.value[1:].mean()
        print_measurement(
            f"{ewald}: FSC 0.5 to the truth at {curve.resolution_A(0.5):.2f} Å, mean {found[ewald]:.3f}, {error:.2f}°"
        )
    assert found["positive"] > found["none"] + 0.005


def test_signs_and_maps_are_those_of_relion(backend: Backend, relion: Callable[[str], str], tmp_path: Path) -> None:
    """`positive` is `--ewald`, `negative` is `--ewald --reverse_curvature`, and the truth is no further from ours."""
    made = ball(tmp_path, 100, 64, 1.2, 30.0, 20.0, 0.05, 2000.0, 0.02)
    maps = {ewald: rebuilt(made, ewald, backend) for ewald in ("positive", "negative")}
    for ewald, opposite, option in (("positive", "negative", []), ("negative", "positive", ["--reverse_curvature"])):
        command = [relion("relion_reconstruct"), "--i", "particles.star", "--o", "theirs.mrc", "--ctf", "--sym", GROUP]
        command += ["--ewald", "--mask_diameter", "64", "--j", "2", *option]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
        theirs = read_volume(tmp_path / "theirs.mrc").data
        true = [masked_fsc(array, made.truth.data, made.mask.data)[1:] for array in (maps[ewald], theirs)]
        alike, unlike = (masked_fsc(maps[sign], theirs, made.mask.data)[1:] for sign in (ewald, opposite))
        lead = true[0] - true[1]
        print_measurement(f"{ewald}: mean FSC to the truth {true[0].mean():.4f}, RELION {true[1].mean():.4f}")
        print_measurement(f"  ours less RELION's {lead.min():+.3f} (shell {1 + lead.argmin()}) to {lead.max():+.3f}")
        print_measurement(f"  with RELION's map: mean {alike.mean():.4f}, shells 25 to 32 {alike[24:].mean():.3f}")
        print_measurement(f"  ours of the opposite sign with it: {unlike.mean():.4f}, {unlike[24:].mean():.3f}")
        assert alike.mean() > 0.98
        assert alike[24:].mean() > unlike[24:].mean() + 0.2
        assert true[0].mean() > true[1].mean() - 0.002
