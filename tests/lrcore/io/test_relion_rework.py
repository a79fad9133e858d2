"""RELION reconstructs expanded, recentred and subtracted particles: as by its own symmetry, moved, and as we do."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io import read_particles, read_volume, write_particles
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.maps.fsc import masked_fsc
from lrcore.masks import soft_sphere
from lrcore.particles.recentring import Recentring, recentre_images, recentre_map, recentre_particles
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrcore.records import Volume
from lrcore.refinement.reconstruction import reconstruct
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main

pytestmark = pytest.mark.slow
SMALL = {"box": 48, "pixel_size_A": 4.0, "snr": 1.0, "radius_a_A": 24.0, "radius_b_A": 20.0}


@pytest.fixture
def star(tmp_path: Path) -> Path:
    return simulate_flexible_particle(tmp_path / "before", n=80, **SMALL).truth_b_star


def reconstructed(program: str, star: Path, *more: str) -> Volume:
    command = [program, "--i", star.name, "--o", "map.mrc", "--ctf", *more]
    subprocess.run(command, cwd=star.parent, check=True, capture_output=True, timeout=600)
    return read_volume(star.parent / "map.mrc")


@pytest.mark.parametrize("group", ["D2", "T", "I3"])
def test_expanded_particles_make_relions_symmetric_map(
    group: str, star: Path, relion: Callable[[str], str], tmp_path: Path
) -> None:
    program = relion("relion_reconstruct")
    particles = read_particles(star)
    copies = expand_symmetry(particles, group)
    write_particles(tmp_path / "expanded.star", copies, copies.poses)
    ours = reconstructed(program, tmp_path / "expanded.star")
    theirs = reconstructed(program, star, "--sym", group)
    plain = reconstructed(program, star)
    sphere = soft_sphere(48, 20, 3)
    alike = masked_fsc(ours.data, theirs.data, sphere)[1:20]
    other = masked_fsc(plain.data, theirs.data, sphere)[1:20]
    assert alike.min() > 0.98
    assert other.min() < 0.7


def test_recentred_particles_make_relions_moved_map(relion: Callable[[str], str], tmp_path: Path) -> None:
    """Inside the mask of the body there; images enough for all of Fourier space, off the centre too."""
    program = relion("relion_reconstruct")
    made = simulate_flexible_particle(tmp_path / "many", n=400, **SMALL)
    particles, frame = read_particles(made.truth_b_star), Recentring((3, -4, 2), 64, 48, 4.0)
    table, stack = tmp_path / "moved.star", tmp_path / "moved.mrcs"
    moved, cut = recentre_particles(particles, frame, table, stack)
    write_image_stack(stack, len(moved), frame.box, 4.0, recentre_images(particles, frame, cut))
    write_particles(table, moved, moved.poses)
    ours, theirs = reconstructed(program, table), recentre_map(reconstructed(program, made.truth_b_star), frame)
    mask = recentre_map(read_volume(made.map("mask_b")), frame).data
    alike = masked_fsc(ours.data, theirs.data, mask)[1:]
    off = recentre_map(theirs, Recentring((1, 0, 0), 64, 64, 4.0))
    assert alike.min() > 0.93
    assert masked_fsc(off.data, theirs.data, mask)[16:].max() < 0.9  # a voxel off would be seen


def test_subtracted_particles_make_the_same_map_with_relion(relion: Callable[[str], str], tmp_path: Path) -> None:
    """As ours of them; and against RELION's of the whole images, the mask's inside stays and its outside goes."""
    program = relion("relion_reconstruct")
    made = simulate_flexible_particle(tmp_path / "many", n=400, hinge_sd_deg=2.0, **SMALL)
    argv = ["subtract", str(made.star), "--mask", str(made.map("mask_b")), "--out", str(tmp_path / "kept.star")]
    assert main(argv) == 0
    theirs, whole = reconstructed(program, tmp_path / "kept.star"), reconstructed(program, made.star)
    particles = read_particles(tmp_path / "kept.star")
    ours = next(event for event in reconstruct(particles, None, "C1", get_backend("cpu")) if isinstance(event, Volume))
    mask, sphere = read_volume(made.map("mask_b")).data, soft_sphere(48, 20, 3)
    alike = masked_fsc(ours.data, theirs.data, sphere)[1:]
    kept = masked_fsc(whole.data, theirs.data, mask)[1:]
    left = [float((np.square(volume.data * (1 - mask) * sphere)).sum()) for volume in (theirs, whole)]
    print(f"FSC to ours {alike[:20].min():.3f}, {alike.min():.3f} in all shells; inside {kept.min():.3f}")
    print(f"power outside, with its noise: {left[0] / left[1]:.1%}")
    assert alike[:20].min() > 0.97  # the last four shells are noise, which the two divide otherwise
    assert kept[:12].min() > 0.95
    assert left[0] < 0.2 * left[1]
