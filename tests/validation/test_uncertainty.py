"""Where the truth lies in the regions that draws report, in whole refinements from noisy half maps.

The whole table is in docs/validation.md, from `python -m tests.validation.coverage`.
"""

from pathlib import Path

import numpy as np
import pytest

from lrcore.analysis.pose_uncertainty import Uncertainty, uncertainty
from lrcore.compute.backend import Backend
from lrcore.records import Step
from tests.validation.coverage import coverage_of, measure_coverage
from tests.validation.judge import SimulatedCase, print_measurement


@pytest.mark.parametrize("snr", [0.02, 0.2])
def test_regions_hold_the_truth_as_often_as_they_say(tmp_path: Path, backend: Backend, snr: float) -> None:
    found = measure_coverage(tmp_path, snr, 1, 1500, backend)
    print_measurement(
        f"SNR {snr}: 68 % and 95 % regions hold {found.drawn} of the truth by draws, {found.searched} as searched"
    )
    assert 0.63 < found.drawn[0] < 0.73
    assert 0.92 < found.drawn[1] < 0.97
    assert found.searched[1] < 0.92, "the search alone promises too much; else this is not needed"
    assert found.unimodal > 0.9


def test_on_the_two_body_set(two_body: SimulatedCase, two_body_run: tuple[Step, Step], backend: Backend) -> None:
    first, last = two_body_run
    job = two_body.job()
    (drawn,) = (event for event in uncertainty(job, first, last, backend) if isinstance(event, Uncertainty))
    assert last.search is not None
    found = coverage_of(last.expectation, drawn, two_body.truth, np.array(last.search.fulcrum_A))
    print_measurement(f"two_body: 68 % and 95 % regions hold {found.drawn} by draws, {found.searched} as searched")
    assert 0.63 < found.drawn[0] < 0.73
    assert 0.92 < found.drawn[1] < 0.97
