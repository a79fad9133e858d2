"""Advice on refinements that were simulated with something wrong in them; all of them are in `advice_table`."""

from pathlib import Path

import pytest

from lrcore.analysis.input_audit import audit_input
from lrcore.compute.backend import Backend
from lrcore.refinement.start import start
from tests.validation.advice_scenarios import Scenario, scenarios, sound_scenarios, world
from tests.validation.advice_table import row_of
from tests.validation.judge import last_step, print_measurement

SEED = 1


def chosen(fault: str, severity: str) -> Scenario:
    (found,) = [one for one in (*scenarios(), *sound_scenarios()) if (one.fault, one.severity) == (fault, severity)]
    return found


@pytest.mark.parametrize(
    ("fault", "severity", "gain"),
    [
        ("rotation extent", "3° for 5°", 0.01),
        ("fulcrum", "the middle of the mask", 0.005),
        ("rotation prior tight", "1.5° for 5°", 0.005),
    ],
)
def test_a_fault_is_found_and_mended(backend: Backend, tmp_path: Path, fault: str, severity: str, gain: float) -> None:
    case = chosen(fault, severity)
    row = row_of(case, SEED, case.make(world(tmp_path, SEED, case.data, backend)))
    print_measurement(str(row))
    assert row.right
    assert row.quality is not None
    before, after = row.quality
    assert after > before + gain


@pytest.mark.parametrize("severity", ["as it comes", "half maps given"])
def test_of_a_sound_run_nothing_is_said(backend: Backend, tmp_path: Path, severity: str) -> None:
    case = chosen("sound", severity)
    row = row_of(case, SEED, case.make(world(tmp_path, SEED, case.data, backend)))
    assert row.found == ()


@pytest.mark.parametrize(
    ("fault", "severity"),
    [
        ("other hand", "mirrored along z"),
        ("other magnification", "4 % too large"),
        ("halves share images", "a quarter"),
        ("sound", "half maps given"),
    ],
)
def test_the_start_tells_of_its_input(backend: Backend, tmp_path: Path, fault: str, severity: str) -> None:
    case = chosen(fault, severity)
    made = case.make(world(tmp_path, SEED, case.data, backend))
    seen = audit_input(made.job, last_step(start(made.job, backend)), backend)
    print_measurement(f"{fault}, {severity}: {seen}")
    assert (seen.solvent_correlation > 0.15) == (fault == "halves share images")
    if seen.hand_and_scale is not None:
        assert (seen.hand_and_scale.mirror_gain > 50) == (fault == "other hand")
        assert seen.hand_and_scale.mirror == "along z" or fault != "other hand"
        if fault != "other hand":
            assert seen.hand_and_scale.scale == pytest.approx(1.04 if fault == "other magnification" else 1.0)
