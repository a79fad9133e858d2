"""Aberrations in a whole refinement: what ignoring them loses, applying them recovers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import IDENTITY
from lrcore.io import cs_table, read_particles
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import fsc_against_truth, rotation_error_deg
from lrwidgets.cli._main import main
from tests.validation.judge import SimulatedCase, last_step, load_case, mean_map, print_measurement

CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "beam tilt of 1 mrad": {"beam_tilt_mrad": (0.8, -0.6)},
    "trefoil": {"odd_zernike": (0.0, 0.0, 60.0, 0.0, 0.0, -45.0)},
    "magnification of 2 %": {"mag_matrix": (1.01, 0.004, 0.004, 0.99)},
    "multiplied by the CTF": {"ctf_premultiplied": True},
}
BOTH_FOILS = CASES["trefoil"] | {"even_zernike": (0.0, 0.0, 0.0, 0.0, 90.0, 0.0, 0.0, 0.0, -110.0)}
"""Trefoil and tetrafoil."""
PLAIN = {
    "beam_tilt_mrad": (0.0, 0.0),
    "odd_zernike": (),
    "even_zernike": (),
    "mag_matrix": IDENTITY,
    "ctf_premultiplied": False,
}


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
    return judged(made({}, tmp_path_factory.mktemp("none")), backend)


def made(optics: dict[str, Any], folder: Any) -> SimulatedCase:
    simulate_flexible_particle(
        folder, n=400, box=72, pixel_size_A=1.5, snr=0.3, hinge_sd_deg=2.0, hinge_shift_sd_A=0.5, bfactor_A2=40.0,
        radius_a_A=18.0, radius_b_A=18.0, seed=3, optics=optics,
    )  # fmt: skip
    return load_case(folder)


@pytest.mark.parametrize("name", [name for name in CASES if name != "none"])
def test_applied_they_cost_nothing_and_ignored_they_do(
    name: str, usual: Judged, backend: Backend, tmp_path: Any
) -> None:
    case = made(CASES[name], tmp_path)
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


def test_trefoil_and_tetrafoil_of_cryosparc(usual: Judged, backend: Backend, tmp_path: Any) -> None:
    """Images of RELION's convention, refined from CryoSPARC's lengths: as from STAR, and only with the right sign."""
    case = made(BOTH_FOILS, tmp_path)
    path = tmp_path / "converted.cs"
    assert main(["convert", str(tmp_path / "particles.star"), str(path)]) == 0
    table = np.load(path)
    fields = [name for name in table.dtype.names if not name.startswith("star_optics/")]
    results = {}
    for name, factor in (("STAR", None), ("right", 1), ("none", 0), ("wrong", -1)):
        particles = case.particles
        if factor is not None:
            lengths = {field: factor * table[field] for field in ("ctf/trefoil_A", "ctf/tetra_A")}
            with path.open("wb") as file:
                np.save(file, cs_table.with_columns(table[fields].copy(), lengths))
            particles = read_particles(path)
        results[name] = judged(replace(case, particles=particles), backend)
    print_measurement(
        "trefoil and tetrafoil of a .cs: mean FSC to the truth from 6 to 3.2 Å "
        + ", ".join(f"{result[0]:.3f} {name}" for name, result in results.items())
        + f", {usual[0]:.3f} where there is none"
    )
    assert results["right"][0] == pytest.approx(results["STAR"][0], abs=2e-3)
    assert results["right"][0] > usual[0] - 0.03
    assert results["none"][0] < results["right"][0] - 0.05
    assert results["wrong"][0] < results["none"][0] - 0.05
