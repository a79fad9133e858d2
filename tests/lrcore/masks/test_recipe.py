"""Masks by recipe: a change of any setting gives what a fresh start gives, and nothing is done twice; coarse maps."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lrcore import masks
from lrcore.errors import InputError
from lrcore.records import Volume

N, PIXEL = 36, 2.0


def lumps(n: int = N, seed: int = 0) -> Volume:
    """Two bodies and an island in noise."""
    z, y, x = np.indices((n, n, n)) * (N / n)
    places = (((14, 18, 18), 5), ((23, 18, 18), 4), ((18, 29, 29), 2.5))
    body = sum(1 / (1 + np.exp(2 * (np.hypot(np.hypot(x - a, y - b), z - c) - r))) for (a, b, c), r in places)
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(n, n, n)), 0.7)
    return Volume((body + 0.1 * noise).astype(np.float32), PIXEL * N / n, (3.0, -4.0, 5.0))


VOLUME = lumps()
SPHERE = masks.Sphere((10.0, 0.0, 0.0), 14.0)
OTHER = masks.CombinedMask("subtract", masks.sphere_mask(N, PIXEL, (-8.0, 0.0, 0.0), 8.0, 6.0))
CHANGES = {
    "lowpass_A": (9.0, 0.0),
    "threshold": (0.4, "auto"),
    "shapes": ((SPHERE,), (SPHERE, masks.Cuboid((-8.0, 0.0, 0.0), (8.0, 10.0, 12.0)))),
    "components": (2, 0),
    "at_A": ((10.0, 0.0, 0.0),),
    "dilate_A": (0.0, -2.0),
    "fill": (True,),
    "soft_A": (0.0, 8.0),
    "resolution_A": (2.0,),
    "joined": ((OTHER,), (OTHER, replace(OTHER, operation="or"))),
    "invert": (True,),
}
STARTS = (
    masks.MaskRecipe(),
    masks.MaskRecipe(threshold=0.5, shapes=(SPHERE,), soft_A=6.0),
    masks.MaskRecipe(shapes=(SPHERE, masks.Cylinder((0.0, 0.0, 0.0), (0, 0, 1), 12.0, 20.0)), joined=(OTHER,)),
)


def same(first: masks.MaskResult, second: masks.MaskResult) -> bool:
    names = [field.name for field in fields(masks.MaskResult) if field.name != "volume"]
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_gives_what_a_fresh_start_gives(name: str, start: masks.MaskRecipe) -> None:
    first = last = masks.make_mask(VOLUME, start)
    for value in CHANGES[name]:
        recipe = replace(start, **{name: value})
        changed = masks.make_mask(VOLUME, recipe, last)
        assert same(changed, masks.make_mask(VOLUME, recipe))
        assert same(masks.make_mask(VOLUME, start, changed), first)
        last = changed


def test_every_setting_is_tried() -> None:
    assert set(CHANGES) == {field.name for field in fields(masks.MaskRecipe)}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("threshold", 0.4, ("lowpassed",)),
        ("components", 2, ("lowpassed", "above_threshold")),
        ("soft_A", 8.0, ("lowpassed", "above_threshold", "region")),
        ("joined", (OTHER,), ("lowpassed", "above_threshold", "region", "uncombined_mask")),
        ("invert", True, ("lowpassed", "above_threshold", "region", "uncombined_mask")),
        ("shapes", (SPHERE,), ("lowpassed", "above_threshold")),
        ("lowpass_A", 9.0, ()),
    ],
)
def test_only_what_follows_a_change_is_done_again(name: str, value: object, kept: tuple[str, ...]) -> None:
    first = masks.make_mask(VOLUME, masks.MaskRecipe(threshold="auto"))
    second = masks.make_mask(VOLUME, masks.MaskRecipe(**{"threshold": "auto", name: value}), first)
    stages = ("lowpassed", "above_threshold", "region", "uncombined_mask")
    assert tuple(stage for stage in stages if getattr(first, stage) is getattr(second, stage)) == kept


def test_nothing_is_kept_of_another_map() -> None:
    recipe = masks.MaskRecipe(threshold=0.4)
    other = lumps(seed=1)
    assert same(masks.make_mask(other, recipe, masks.make_mask(VOLUME, recipe)), masks.make_mask(other, recipe))


def test_a_recipe_that_leaves_nothing_is_refused_and_an_empty_mask_is_told() -> None:
    with pytest.raises(InputError, match="no density above it lies inside the shapes"):
        masks.make_mask(VOLUME, masks.MaskRecipe(threshold=0.5, shapes=(masks.Sphere((-30.0, -30.0, -30.0), 4.0),)))
    everything = masks.CombinedMask("subtract", np.ones((N, N, N), np.float32))
    made = masks.make_mask(VOLUME, masks.MaskRecipe(joined=(everything,)))
    assert made.is_empty
    assert not made.checks()[1].passed
    assert np.isnan(masks.measure_mask(made.mask, PIXEL).centre_px).all()


@pytest.mark.parametrize(("n", "size"), [(36, 18), (36, 25), (35, 20), (35, 17), (36, 36), (36, 40)])
def test_a_coarse_map_shows_the_same_places(n: int, size: int) -> None:
    """A Gaussian ball, which both grids hold, is where it was, in the frame of the box and in that of the file."""
    volume = Volume(np.zeros((n, n, n), np.float32), PIXEL, (3.0, -4.0, 5.0))
    place_A, sd_A = np.array([5.0, -7.0, 3.0]), 8.0

    def ball(grid: Volume) -> np.ndarray:
        z, y, x = (np.indices(grid.data.shape) - grid.box // 2) * grid.pixel_size_A
        squares = (x - place_A[0]) ** 2 + (y - place_A[1]) ** 2 + (z - place_A[2]) ** 2
        return np.exp(-squares / (2 * sd_A**2)).astype(np.float32)

    small = masks.downsample_volume(replace(volume, data=ball(volume)), size)
    assert small.box == min(n, size)
    assert small.box * small.pixel_size_A == pytest.approx(n * PIXEL)
    assert np.abs(small.data - ball(small)).max() < 2e-3
    centres = [np.array(v.header_origin_A) + (v.box // 2) * v.pixel_size_A for v in (volume, small)]
    assert centres[0] == pytest.approx(centres[1])


def test_a_coarse_mask_is_the_mask_seen_from_afar() -> None:
    """What a drag shows is what its end makes, to a voxel of the coarse grid."""
    fine, recipe = lumps(72), masks.MaskRecipe(threshold=0.4, dilate_A=4.0, soft_A=10.0)
    small = masks.make_mask(masks.downsample_volume(fine, 36), recipe).mask
    whole = masks.make_mask(fine, recipe).mask
    assert np.abs(small - whole[::2, ::2, ::2]).max() < 0.35
    assert np.abs(small - whole[::2, ::2, ::2]).mean() < 0.01
