"""Aberrations in a whole refinement: what ignoring them loses, applying them recovers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import IDENTITY
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import fsc_against_truth, rotation_error_deg
from tests.validation.judge import SimulatedCase, last_step, load_case, mean_map, print_measurement

CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "beam tilt of 1 mrad": {"beam_tilt_mrad": (0.8, -0.6)},
    "trefoil": {"odd_zernike": (0.0, 0.0, 60.0, 0.0, 0.0, -45.0)},
    "magnification of 2 %": {"mag_matrix": (1.01, 0.004, 0.004, 0.99)},
    "multiplied by the CTF": {"ctf_premultiplied": True},
}
PLAIN = {"beam_tilt_mrad": (0.0, 0.0), "odd_zernike": (), "mag_matrix": IDENTITY, "ctf_premultiplied": False}


Judged = tuple[float, float, float]
"""Mean FSC against the truth from 6 to 3.2 Å, median rotation error in degrees, resolution at FSC 0.5 in Å."""


def judged(case: SimulatedCase, backend: Backend) -> Judged:
    """Of two iterations from the input poses."""
    job = Job(case.particles, case.mask, RefineSpec(), None)
    first = last = last_step(start(job, backend))
    for _ in range(2):
        last = last_step(run_iteration(job, first, last, backend))
    curve = fsc_against_truth(mean_map(last), case.gt_b, case.mask)
    fine = curve.value[(curve.frequency > 1 / 6) & (curve.frequency < 1 / 3.2)]
    wrong = float(np.median(rotation_error_deg(last.expectation.poses, case.truth)))
    return float(fine.mean()), wrong, curve.resolution_A(0.5)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Judged:
    """The same particles seen through usual optics."""
    return judged(made("none", tmp_path_factory.mktemp("none")), backend)


def made(name: str, folder: Any) -> SimulatedCase:
    simulate_flexible_particle(
        folder, n=400, box=72, pixel_size_A=1.5, snr=0.3, hinge_sd_deg=2.0, hinge_shift_sd_A=0.5, bfactor_A2=40.0,
        radius_a_A=18.0, radius_b_A=18.0, seed=3, optics=CASES[name],
    )  # fmt: skip
    return load_case(folder)


@pytest.mark.parametrize("name", [name for name in CASES if name != "none"])
def test_applied_they_cost_nothing_and_ignored_they_do(
    name: str, usual: Judged, backend: Backend, tmp_path: Any
) -> None:
    case = made(name, tmp_path)
    applied = judged(case, backend)
    optics = tuple(replace(group, **PLAIN) for group in case.particles.optics)
    ignored = judged(replace(case, particles=replace(case.particles, optics=optics)), backend)
    print_measurement(
        f"{name}: mean FSC to the truth from 6 to 3.2 Å {applied[0]:.3f} applied, {ignored[0]:.3f} ignored, "
        f"{usual[0]:.3f} where there is none; rotation error {applied[1]:.2f}, {ignored[1]:.2f}, {usual[1]:.2f}°; "
        f"FSC 0.5 at {applied[2]:.2f}, {ignored[2]:.2f}, {usual[2]:.2f} Å"
    )
    assert applied[0] > usual[0] - 0.03
    assert applied[1] < 1.1 * usual[1]
    assert ignored[0] < applied[0] - 0.05
