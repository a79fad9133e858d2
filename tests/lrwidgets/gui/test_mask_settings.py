"""Settings of a mask without any toolkit: their recipe, how shapes change them, and the mask in words."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore import masks
from lrcore.errors import InputError
from lrcore.records import Volume
from lrwidgets.gui.mask_settings import MaskSettings, check_lines, describe_mask, describe_parts, read_model

BALL = masks.Sphere((0.0, 0.0, 0.0), 5.0)
ATOMS = masks.Atoms(np.zeros((1, 3)), 5.0, "model.pdb")


def volume() -> Volume:
    """Two balls of density, a large one and a small one."""
    z, y, x = np.meshgrid(*[np.arange(24) - 12.0] * 3, indexing="ij")
    data = np.exp(-((x + 4) ** 2 + y**2 + z**2) / 8) + np.exp(-((x - 6) ** 2 + y**2 + z**2) / 3)
    return Volume(data.astype(np.float32), 2.0)


def test_a_region_of_shapes_needs_one() -> None:
    with pytest.raises(InputError, match="no shapes yet"):
        MaskSettings(region="within").recipe()
    assert MaskSettings(region="shapes", drawn=(BALL,)).recipe().threshold is None
    assert MaskSettings(drawn=(BALL,)).recipe().shapes == (), "shapes count only in a region of shapes"


def test_the_first_shapes_are_used_at_once() -> None:
    first = MaskSettings().with_shapes((BALL,))
    assert (first.region, first.drawn) == ("within", (BALL,))
    assert replace(first, region="dense").with_shapes((BALL, BALL)).region == "dense"
    assert MaskSettings().with_shapes(()).region == "dense"
    assert MaskSettings(region="shapes").with_shapes((BALL,)).region == "shapes"


def test_a_second_shape_counts_too() -> None:
    """With one part kept, the density in the second shape would be thrown away."""
    balls = [masks.Sphere((x, 0.0, 0.0), 6.0) for x in (-8.0, 12.0)]
    settings = replace(MaskSettings(), lowpass_A=0.0, soft_A=0.0, dilate_A=0.0, threshold=0.5, found=False)
    one, two = (settings.with_shapes(tuple(balls[:count])) for count in (1, 2))
    inside = [masks.make_mask(volume(), one_of.recipe()).mask.sum() for one_of in (one, two)]
    assert inside[1] > inside[0]
    assert two.with_shapes(tuple(balls[:1])).components == 1
    assert replace(settings, components=5).with_shapes(tuple(balls)).components == 5, "what a person set stays"


def test_a_model_is_used_at_once_and_all_can_be_removed() -> None:
    settings = MaskSettings(dilate_A=3.0).with_atoms(ATOMS)
    assert (settings.region, settings.atoms) == ("within", (ATOMS,))
    assert describe_parts(settings) == ["near model.pdb, 5 Å"]
    assert settings.without_shapes() == MaskSettings(dilate_A=3.0)


def test_only_what_differs_is_a_change() -> None:
    settings = MaskSettings()
    assert settings.changes_to(replace(settings, fill=True)) == {"fill": True}
    assert settings.changes_to(settings) == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (MaskSettings(components=1), "largest of 2 parts kept"),
        (MaskSettings(components=0), "all 2 parts kept"),
        (MaskSettings(at_A=(12.0, 0.0, 0.0)), "1 of 2 parts kept"),
    ],
)
def test_parts_that_were_kept(settings: MaskSettings, words: str) -> None:
    settings = replace(settings, lowpass_A=0.0, threshold=0.5, found=False, soft_A=4.0)
    made = masks.make_mask(volume(), settings.recipe())
    (first, passed), *checks = describe_mask(made)
    assert first.startswith(f"threshold 0.5, {words} · ")
    assert "kDa of protein" in first
    assert passed
    assert checks == check_lines(made.checks())
    assert all(line[0] in "✓⚠" for line, _ in checks)


def test_a_mask_from_a_file_says_so() -> None:
    made = masks.make_mask(volume(), replace(MaskSettings(), lowpass_A=0.0).recipe())
    given = Volume(made.mask, 2.0)
    assert describe_mask(made, given)[0][0].startswith("mask from file; change any setting to build a new one")


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"none\.pdb"):
        read_model(" none.pdb ")
