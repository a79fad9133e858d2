"""relion_reconstruct corrects aberrations as we do: the same map from the same STAR file, and a worse one without."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore.compute.backend import Backend, get_backend
from lrcore.imaging.aberrations import IDENTITY
from lrcore.io import read_particles, read_volume, write_particles
from lrcore.maps.fsc import masked_fsc
from lrcore.records import Volume
from lrcore.refinement.reconstruction import reconstruct
from lrcore.simulation.data_set import simulate_flexible_particle

RIGID = {"hinge_sd_deg": 0.0, "hinge_shift_sd_A": 0.0, "bfactor_A2": 30.0, "noise": "white"}
SMALL = {"n": 150, "box": 80, "pixel_size_A": 1.4, "snr": 1.0, "radius_a_A": 20.0, "radius_b_A": 16.0}
CASES: dict[str, dict[str, Any]] = {
    "beam tilt": {"beam_tilt_mrad": (0.8, -0.6)},
    "trefoil": {"odd_zernike": (0.0, 0.0, 60.0, 0.0, 0.0, -45.0)},
    "odd polynomials": {"odd_zernike": (10.0, -12.0, 60.0, 9.0, -12.0, 60.0)},
    "tetrafoil and others": {"even_zernike": (0.1, 3.0, 2.0, -3.0, 60.0, 10.0, -8.0, 10.0, -75.0)},
    "magnification": {"mag_matrix": (1.02, 0.005, 0.003, 0.98)},
    "all": {
        "beam_tilt_mrad": (0.8, -0.6),
        "even_zernike": (0.1, 3.0, 2.0, -3.0, 60.0),
        "mag_matrix": (1.02, 0.005, 0.003, 0.98),
    },
    "multiplied by the CTF": {"ctf_premultiplied": True},
}
GRIDDING = ("--iter", "3")
"""Rounds of RELION's correction for uneven sampling: ten, its default, take three times as long for the same bounds."""
PLAIN = {
    "beam_tilt_mrad": (0.0, 0.0),
    "odd_zernike": (),
    "even_zernike": (),
    "mag_matrix": IDENTITY,
    "ctf_premultiplied": False,
}


def our_map(star: Path, backend: Backend) -> Volume:
    found = [event for event in reconstruct(read_particles(star), None, "C1", backend) if isinstance(event, Volume)]
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_relion_corrects_as_we_do(name: str, relion: Callable[[str], str], tmp_path: Path) -> None:
    made = simulate_flexible_particle(tmp_path, optics=CASES[name], **SMALL, **RIGID)
    backend, star, bare = get_backend("cpu"), tmp_path / "true.star", tmp_path / "bare.star"
    write_particles(star, made.particles, made.poses_a)
    optics = tuple(replace(group, **PLAIN) for group in made.particles.optics)
    write_particles(bare, replace(made.particles, optics=optics), made.poses_a)
    program = relion("relion_reconstruct")
    command = [program, "--i", star.name, "--o", "relion.mrc", "--ctf", "--pad", "2", *GRIDDING]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)

    truth, mask = (read_volume(made.map(which)).data for which in ("gt_full", "mask_full"))
    ours, without = our_map(star, backend).data, our_map(bare, backend).data
    theirs = read_volume(tmp_path / "relion.mrc").data
    true, ignored, relions, alike = (
        masked_fsc(first, second, mask)[1:39]
        for first, second in ((ours, truth), (without, truth), (theirs, truth), (ours, theirs))
    )
    mean = [float(curve[20:].mean()) for curve in (true, ignored, relions)]
    print(
        f"{name}: mean FSC to the truth beyond 5.3 Å: ours {mean[0]:.3f}, RELION {mean[2]:.3f}, ignored {mean[1]:.3f}"
    )
    print(
        f"  ours less RELION's, least {np.min(true - relions):.3f}; with each other, up to 4 Å {alike[:28].min():.3f}"
    )
    assert np.min(true - relions) > -0.02
    assert alike[:28].min() > 0.9
    assert mean[1] < mean[0] - 0.1
