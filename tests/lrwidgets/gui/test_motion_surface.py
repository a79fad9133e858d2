"""A body that swings as a surface: rigid, about the fulcrum, as far as the motion says, where its map is moved to."""

import numpy as np
import pytest
import xarray as xr

from lrcore.analysis.motion_volumes import move_body
from lrcore.errors import InputError
from lrcore.masks import cosine_edge
from lrcore.records import Volume
from lrwidgets.gui.motion_surface import FRAMES, motion_surfaces

pytest.importorskip("skimage")
N, PIXEL = 32, 2.0
FULCRUM = np.array([-10.0, 4.0, 2.0])
TURN_DEG, SHIFT_A = np.array([2.0, 3.0, -6.0]), np.array([0.5, -1.0, 1.5])


def ball(x: float, y: float, z: float, radius: float) -> np.ndarray:
    """A soft ball about a point in Å from the box centre: (n, n, n)."""
    axis = (np.arange(N) - N // 2) * PIXEL
    Z, Y, X = np.meshgrid(axis, axis, axis, indexing="ij")
    return cosine_edge(np.sqrt((X - x) ** 2 + (Y - y) ** 2 + (Z - z) ** 2), radius, 6.0)


@pytest.fixture
def motions() -> xr.Dataset:
    return xr.Dataset(
        {
            "turn": (("motion", "axis"), TURN_DEG[None]),
            "shift": (("motion", "axis"), SHIFT_A[None]),
            "fulcrum": ("axis", FULCRUM),
        },
        coords={"motion": [1]},
    )


@pytest.fixture
def whole() -> Volume:
    return Volume((ball(8, 6, -4, 8) + ball(-18, -6, 4, 7)).astype(np.float32), PIXEL)


def test_the_surface_goes_where_the_map_goes(motions: xr.Dataset, whole: Volume) -> None:
    mask = ball(8, 6, -4, 13).astype(np.float32)
    shown = motion_surfaces(motions, 1, whole, mask)
    assert shown.body.shape == (FRAMES, len(shown.body[0]), 3)
    assert np.allclose(shown.positions_sd[[0, FRAMES // 2, -1]], [-2, 0, 2])
    for frame in (0, FRAMES // 2, FRAMES - 1):
        at = shown.positions_sd[frame]
        there = move_body(whole, Volume(mask, PIXEL), FULCRUM, np.radians(at * TURN_DEG), at * SHIFT_A)
        body = there.data - whole.data * (1 - mask)
        weights = np.clip(body, 0, None)
        axis = (np.arange(N) - N // 2) * PIXEL
        centre = [float((weights.sum(axis=axes) * axis).sum() / weights.sum()) for axes in ((0, 1), (0, 2), (1, 2))]
        assert np.allclose(shown.body[frame].mean(axis=0), centre, atol=0.6)
    apart = np.linalg.norm(shown.body - shown.body.mean(axis=1, keepdims=True), axis=2)
    assert np.allclose(apart, apart[0], atol=1e-3), "it is rigid"
    assert np.allclose(shown.rest.mean(axis=0), [-18, -6, 4], atol=1.0), "the rest stays"


def test_a_body_alone_has_no_rest(motions: xr.Dataset) -> None:
    alone = Volume(ball(8, 6, -4, 8).astype(np.float32), PIXEL)
    shown = motion_surfaces(motions, 1, alone, np.ones((N, N, N), np.float32))
    assert shown.rest.shape == (0, 3)


def test_a_motion_that_is_not_there(motions: xr.Dataset, whole: Volume) -> None:
    with pytest.raises(InputError, match="there are motions 1 to 1"):
        motion_surfaces(motions, 2, whole, np.ones((N, N, N), np.float32))
