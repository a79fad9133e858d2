"""Messages of the command line in a panel's terms."""

import pytest

from lrwidgets.text.interface_terms import in_interface_terms


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("shift_prior_sd_A = -4: must be above 0", "Shift prior SD = -4: must be above 0"),
        ("prior=motion accounts for it", "Pose prior = motion accounts for it"),
        ("the prior is wide", "the prior is wide"),
        ("raise max_iterations, or change a setting", "raise Maximum iterations, or change a setting"),
        ("a.star: has one half set: split them (--resplit)", "a.star: has one half set: split them (“New half sets”)"),
        ("/data/non_uniform/run.zarr: exists: choose another --out",
         "/data/non_uniform/run.zarr: exists: choose another “New run”"),
        ("re-box the mask: lrwidgets resample m.mrc --box 96 --apix 2 --out NEW.mrc",
         "re-box the mask: lrwidgets resample m.mrc --box 96 --apix 2 --out NEW.mrc"),
    ],
)  # fmt: skip
def test_options_and_names_become_labels_and_commands_stay(message: str, shown: str) -> None:
    assert in_interface_terms(message) == shown
