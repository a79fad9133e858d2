"""What is wrong with a mask is told when it is read, in one line each, and looked for once."""

from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.masks import check_mask, checks, mask_warnings, soft_sphere, validate_mask
from lrcore.records import Volume

N = 40
GOOD = soft_sphere(N, 8, 6)


def volume(data: np.ndarray) -> Volume:
    return Volume(data.astype(np.float32), 2.0, path=Path("m.mrc"))


@pytest.mark.parametrize("shift", [0, 5])
def test_a_good_mask_passes(shift: int) -> None:
    assert mask_warnings(volume(np.roll(GOOD, shift, 0))) == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (1 - GOOD, "9[0-9]% of the box is inside the mask, to its corners: is it the wrong way round"),
        (1 - soft_sphere(N, 3, 2), "is it the wrong way round"),
        (np.ones_like(GOOD), "100% of the box is inside the mask, to its corners"),
        (0.5 * GOOD, "values lie between 0 and 0.5: the maximum should be 1"),
        (0.9 * GOOD, "the maximum should be 1"),
        (np.roll(GOOD, 14, 2), "the mask is cut by the border of the box"),
        (np.roll(GOOD, -12, 0), "the mask is cut by the border of the box"),
        ((GOOD > 0.5).astype(np.float32), "the mask is binary"),
        (soft_sphere(N, 8, 1), "the soft edge is .* voxels wide"),
        (soft_sphere(N, 19.6, 3), "the mask fills 6. % of the box"),
    ],
)
def test_faults_are_warned_of(data: np.ndarray, said: str) -> None:
    with pytest.warns(UserWarning, match=f"^m.mrc: .*{said}"):
        validate_mask(volume(data), N, 2.0)


@pytest.mark.parametrize("data", [GOOD - 0.05, 1.2 * GOOD, -GOOD, 255 * GOOD])
def test_values_beyond_0_and_1_are_refused_with_the_command_that_clips_them(data: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"must lie between 0 and 1: clip it .lrwidgets resample m.mrc .*--as mask"):
        validate_mask(volume(data), N, 2.0)


def test_a_low_maximum_is_a_failed_check_of_values() -> None:
    by_name = {check.name: check for check in check_mask(np.float32(0.6) * GOOD, 2.0)}
    assert not by_name["values"].passed
    assert by_name["values"].value == pytest.approx(0.4)
    assert {check.name: check for check in check_mask(GOOD, 2.0)}["values"].passed


def test_the_same_mask_is_examined_once_and_forgotten_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    count = []
    width = checks.edge_width
    monkeypatch.setattr(checks, "edge_width", lambda data: count.append(1) or width(data))
    mask = volume(soft_sphere(N, 8, 1))
    assert mask_warnings(mask) == mask_warnings(mask) != ()
    assert len(count) == 1
    assert mask in checks._known_warnings
    before = len(checks._known_warnings)
    del mask
    assert len(checks._known_warnings) == before - 1
