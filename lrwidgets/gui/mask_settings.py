"""What the controls of a mask say, as a recipe and in words: the same in every face."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lrcore import masks
from lrcore.errors import InputError
from lrcore.masks.recipe import DEFAULT_DILATION_A, DEFAULT_SOFT_EDGE_A
from lrcore.records import Volume

Point = tuple[float, float, float]
Region = Literal["dense", "within", "shapes"]
REGIONS = (
    ("what is dense", "dense"),
    ("what is dense in the shapes", "within"),
    ("all that is in the shapes", "shapes"),
)


@dataclass(frozen=True)
class MaskSettings:
    """What the controls say. Lengths in Å; 0 components: all; 0 resolution: not known. drawn: with the mouse."""

    lowpass_A: float = 12.0
    threshold: float = 0.0
    found: bool = True
    region: Region = "dense"
    components: int = 1
    at_A: Point | None = None
    dilate_A: float = DEFAULT_DILATION_A
    fill: bool = False
    soft_A: float = DEFAULT_SOFT_EDGE_A
    resolution_A: float = 0.0
    invert: bool = False
    drawn: tuple[masks.Sphere | masks.Cuboid, ...] = ()
    atoms: tuple[masks.Atoms, ...] = ()
    joined: tuple[masks.CombinedMask, ...] = ()

    def recipe(self) -> masks.MaskRecipe:
        """The recipe of these settings. Raises InputError if shapes are asked for and there are none."""
        shapes = (*self.drawn, *self.atoms) if self.region != "dense" else ()
        if self.region != "dense" and not shapes:
            raise InputError("there are no shapes yet: draw a sphere or a box in the slices, or add a model")
        alone = self.region == "shapes"
        return masks.MaskRecipe(
            lowpass_A=self.lowpass_A,
            threshold=None if alone else "auto" if self.found else self.threshold,
            shapes=shapes,
            components=0 if alone else self.components,
            at_A=self.at_A,
            dilate_A=self.dilate_A,
            fill=self.fill,
            soft_A=self.soft_A,
            resolution_A=self.resolution_A or None,
            joined=self.joined,
            invert=self.invert,
        )


def describe_mask(
    made: masks.MaskResult, given: Volume | None = None, checks: Sequence[masks.MaskCheck] | None = None
) -> list[tuple[str, bool]]:
    """What is to be known of a mask, a line each, and whether it is as it should be.

    given: a mask that is shown in place of the made one. checks: of what is shown, those of the made one by default.
    """
    apix = made.volume.pixel_size_A
    mask = made.mask if given is None else given.data
    size = masks.measure_mask(mask, apix)
    parts = ["the mask that was given: set anything to make another"] if given is not None else []
    if given is None and made.recipe.uses_density:
        parts.append(
            f"threshold {made.threshold:.4g}, kept of {made.component_count} part{'s' * (made.component_count > 1)}"
        )
    centre = ", ".join(f"{x:.1f}" for x in size.centre_px)
    parts += [
        f"{size.volume_A3:.0f} Å³, room for {size.mass_kDa:.0f} kDa",
        f"{100 * size.fraction:.2g} % of the box",
        f"centre {centre} px",
    ]
    lines = [(" · ".join(parts), True)]
    lines += [
        (("✓ " if check.passed else "⚠ ") + check.sentence, check.passed)
        for check in (made.checks() if checks is None else checks)
    ]
    return lines


def describe_parts(settings: MaskSettings) -> list[str]:
    """Shapes, models and other masks, a line each."""
    count = len(settings.drawn)
    lines = [f"{count} shape{'s' * (count > 1)} drawn"] if count else []
    lines += [f"near {one.name}, {one.radius_A:g} Å" for one in settings.atoms]
    lines += [f"{one.operation} {one.name}" for one in settings.joined]
    return lines
