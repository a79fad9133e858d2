"""What in a mask stays behind is where half maps agreed better before; where nothing moves nothing does."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lrcore.analysis.static_density import find_static_density, mask_without
from lrcore.imaging.grids import radius_grid
from lrcore.masks import cosine_edge
from lrcore.records import HalfMaps, Volume

BOX, PIXEL_A = 64, 3.0
AT_REST = np.arange(BOX) < 28
"""Along x: the part of the mask that does not move."""


def textured(seed: int) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=(BOX,) * 3), 1.5)


DENSITY = textured(0)
MASK = Volume(cosine_edge(radius_grid(BOX, 3), 16, 6), PIXEL_A)


def halves(noise_at_rest: float, noise_elsewhere: float, seed: int, density: np.ndarray = DENSITY) -> HalfMaps:
    """Two maps of the same density with noise of their own, which is another in the two parts."""
    level = np.where(AT_REST, noise_at_rest, noise_elsewhere)
    maps = [(density + level * textured(2 * seed + half)).astype(np.float32) for half in (1, 2)]
    return HalfMaps(*(Volume(one, PIXEL_A) for one in maps))


def test_it_is_found_where_it_is() -> None:
    found = find_static_density(halves(0.5, 1.3, 1), halves(0.8, 0.6, 2), MASK, 8.0)
    inside = MASK.data > 0.5
    true = inside & AT_REST
    # Within a window's width of the border what agrees worst has the say.
    assert found.share == pytest.approx(true.sum() / inside.sum(), abs=0.1)
    assert found.agreement_gain > 0.1
    assert (found.where & true).sum() > 0.65 * true.sum()
    assert (found.where & ~true).sum() < 0.1 * true.sum()


def test_where_nothing_moves_nothing_gains() -> None:
    found = find_static_density(halves(0.8, 0.8, 1), halves(0.8, 0.8, 2), MASK, 8.0)
    assert abs(found.agreement_gain) < 0.015
    same = halves(0.8, 0.8, 1)
    assert find_static_density(same, same, MASK, 8.0).share == 0.0


def test_what_is_faint_is_no_part_of_it() -> None:
    faint = DENSITY * np.where(AT_REST, 0.02, 1.0)
    found = find_static_density(halves(0.001, 2.0, 1, faint), halves(0.03, 0.5, 2, faint), MASK, 8.0)
    assert found.share < 0.02
    assert not found.where[..., :20].any()


def test_a_mask_without_anything_says_nothing() -> None:
    found = find_static_density(
        halves(0.5, 2.0, 1), halves(0.9, 0.5, 2), Volume(np.zeros_like(MASK.data), PIXEL_A), 8.0
    )
    assert (found.share, found.where.any()) == (0.0, False)


def test_a_spared_mask_is_the_mask_but_for_an_edge_about_what_is_taken_out() -> None:
    where = np.zeros((BOX,) * 3, np.bool_)
    where[..., :28] = MASK.data[..., :28] > 0.5
    got = mask_without(MASK, where, 12.0)
    assert (got.data[where] == 0).all()
    assert (got.data <= MASK.data).all()
    assert np.array_equal(got.data[..., 32:], MASK.data[..., 32:]), "four voxels of 3 Å on"
    assert 0.2 < got.data[32, 32, 29] < 0.8
    assert got.header_origin_A == MASK.header_origin_A
