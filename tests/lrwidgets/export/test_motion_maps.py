"""Maps of bins along a motion: averaged over the copies of a body only where the mask covers them all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lrcore.compute.backend import get_backend
from lrcore.masks import sphere_mask
from lrcore.records import Volume
from lrwidgets.export import motion_maps
from tests.fakes import BOX, PIXEL, make_job, make_step


@pytest.mark.parametrize(("centre_A", "expected"), [((0.0, 0.0, 0.0), "C2"), ((10.0, 0.0, 0.0), "C1")])
def test_bins_are_averaged_over_copies_in_the_mask_alone(
    centre_A: tuple[float, float, float], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = Volume(sphere_mask(BOX, PIXEL, centre_A, 4.0, 2.0), PIXEL)
    job = replace(make_job(symmetry="C2"), mask=mask)
    first, found = make_step(job), []

    def bins(*arguments: object) -> list[Volume]:
        found.append(arguments[-1])
        return [mask, mask]

    monkeypatch.setattr(motion_maps, "motion_series", lambda *_: [(0.0, mask)] * motion_maps.FRAMES)
    monkeypatch.setattr(motion_maps, "reconstruct_bins", bins)
    uid = job.particles.uid
    motions = xr.Dataset(
        {"coordinate": (("motion", "particle"), np.arange(len(uid), dtype=float)[None])},
        {"motion": [1], "uid": ("particle", uid)},
    )
    files = motion_maps.write_motion_maps(tmp_path / "out", job, (first, first), motions, 1, 2, get_backend("cpu", 1))
    assert len([file for file in files if isinstance(file, Path)]) == motion_maps.FRAMES + 4
    assert found == [expected]
