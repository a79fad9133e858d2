"""Settings of a mask in a panel: their recipe, labels, and the resulting mask in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lrcore import masks
from lrcore.errors import InputError
from lrcore.masks.recipe import DEFAULT_DILATION_A, DEFAULT_SOFT_EDGE_A
from lrcore.records import Volume

Point = tuple[float, float, float]
Region = Literal["dense", "within", "shapes"]
REGIONS = (
    ("density above threshold", "dense"),
    ("density inside shapes", "within"),
    ("whole shapes", "shapes"),
)
"""Label and value of each region."""
SLIDERS = {
    "lowpass_A": ("low-pass, Å", 0.0, 60.0),
    "dilate_A": ("dilate, Å", -20.0, 40.0),
    "soft_A": ("soft edge, Å", 0.0, 80.0),
}
"""Label, minimum and maximum of each slider."""
COARSE = 128
"""Box of the map that is masked while a slider moves: an eighth of the work in a box of 256."""
SLIDER_STEP_A = 0.5
TICKS = {"found": "automatic threshold", "fill": "fill holes", "invert": "invert"}
"""Label of each checkbox."""
ATOM_RADIUS_A = 5.0
"""Default distance from the atoms of a model."""
RESOLUTION_LABEL = "target resolution, Å"
PARTS_LABEL = "largest parts to keep (0 = all)"
MAX_PARTS = 999
LABELS = {
    **{name: label for name, (label, *_) in SLIDERS.items()},
    "components": PARTS_LABEL,
    "resolution_A": RESOLUTION_LABEL,
}
POSITIVE = ("lowpass_A", "soft_A", "components", "resolution_A")
"""Settings that may not be below 0."""
APPLY = ("Use from next iteration", "use this mask from the next iteration")
APPLIED = "in use from the next iteration"


@dataclass(frozen=True)
class MaskSettings:
    """Settings of the mask controls.

    Attributes
    ----------
    lowpass_A
        Low-pass of the map before the threshold, in Å; 0 for none.
    threshold, found
        Threshold of the low-passed map, and whether it is found automatically instead.
    region
        "dense" for the density above the threshold, "within" for that inside the shapes, "shapes" for whole shapes.
    components
        Number of the largest connected parts to keep; 0 for all.
    at_A
        Point (x, y, z) in Å from the box centre whose part is kept, or None.
    dilate_A
        Dilation in Å; negative for an erosion.
    fill
        Whether holes are filled.
    soft_A
        Width of the soft edge in Å.
    resolution_A
        Resolution in Å that the refinement is expected to reach, for the check of the edge; 0 if unknown.
    invert
        Whether the mask is inverted, after all other operations.
    drawn, atoms, joined
        Shapes drawn with the mouse, models, and masks to combine with.
    """

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
        """Return the recipe of these settings. Raises InputError for a region of shapes without any shape."""
        shapes = (*self.drawn, *self.atoms) if self.region != "dense" else ()
        if self.region != "dense" and not shapes:
            raise InputError("there are no shapes yet: draw a sphere or a box, or add a model")
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

    def change(self, changes: Mapping[str, Any], shown: float | None) -> "MaskSettings":
        """Return settings with changes. A threshold that is set turns the automatic one off.

        shown: the automatic threshold, which stays when only `found` is turned off; None if there is none yet.
        """
        manual = {"found": False} if "threshold" in changes else {}
        kept = {"threshold": shown} if self.found and not changes.get("found", True) and shown is not None else {}
        return replace(self, **{**kept, **manual, **changes})

    def with_shapes(self, shapes: tuple[masks.Sphere | masks.Cuboid, ...]) -> "MaskSettings":
        """Return the settings with these drawn shapes; the first ones are used at once.

        Where one part was kept for each shape so far, so it is for these: else the second would count for nothing.
        """
        first = shapes and not self.drawn
        follows = self.components == max(1, len(self.drawn))
        components = max(1, len(shapes)) if follows else self.components
        region = "within" if first and self.region == "dense" else self.region
        return replace(self, drawn=shapes, region=region, components=components)

    def with_atoms(self, atoms: masks.Atoms) -> "MaskSettings":
        """Return the settings with another model, which is used at once."""
        return replace(self, atoms=(*self.atoms, atoms), region="within" if self.region == "dense" else self.region)

    def without_shapes(self) -> "MaskSettings":
        """Return the settings without shapes, models and other masks."""
        return replace(self.with_shapes(()), atoms=(), joined=(), region="dense")

    def changes_to(self, other: "MaskSettings") -> dict[str, Any]:
        """Return the fields in which other settings differ, with their values there."""
        return {name: value for name, value in vars(other).items() if value != getattr(self, name)}


def require_valid_setting(name: str, value: Any) -> Any:
    """Return the value of a setting. Raises InputError if it is below 0 where that means nothing."""
    if name in POSITIVE and value < 0:
        raise InputError(f"{LABELS[name]}: {value:g} typed: type 0 or more")
    return value


def read_model(path: str | Path, selection: str = "", radius_A: float = ATOM_RADIUS_A) -> masks.Atoms:
    """Read the atoms of a model. Raises InputError as `masks.read_atoms` does."""
    path, selection = str(path).strip(), selection.strip()
    return masks.Atoms(masks.read_atoms(path, selection), radius_A, f"{Path(path).name} {selection}".strip())


def describe_mask(
    made: masks.MaskResult, given: Volume | None = None, checks: Sequence[masks.MaskCheck] | None = None
) -> list[tuple[str, bool]]:
    """Return size and checks of a mask, a line each, with whether the check passed.

    given: a mask that is shown in place of the made one. checks: of what is shown, those of the made one by default.
    """
    apix = made.volume.pixel_size_A
    mask = made.mask if given is None else given.data
    size = masks.measure_mask(mask, apix)
    parts = ["mask from file; change any setting to build a new one"] if given is not None else []
    if given is None and made.recipe.uses_density:
        parts.append(f"threshold {made.threshold:.4g}, {_kept_parts(made)}")
    centre = ", ".join(f"{x:.1f}" for x in size.centre_px)
    parts += [
        f"{size.volume_A3:.0f} Å³, ≈ {size.mass_kDa:.0f} kDa of protein",
        f"{100 * size.fraction:.2g} % of the box",
        f"centre {centre} px",
    ]
    return [(" · ".join(parts), True), *check_lines(made.checks() if checks is None else checks)]


def check_lines(checks: Sequence[masks.MaskCheck]) -> list[tuple[str, bool]]:
    """Return checks as lines, with whether each passed."""
    return [(("✓ " if check.passed else "⚠ ") + check.sentence, check.passed) for check in checks]


def describe_parts(settings: MaskSettings) -> list[str]:
    """Return shapes, models and other masks, a line each."""
    count = len(settings.drawn)
    lines = [f"{count} shape{'s' * (count > 1)} drawn"] if count else []
    lines += [f"near {one.name}, {one.radius_A:g} Å" for one in settings.atoms]
    lines += [f"{one.operation} {one.name}" for one in settings.joined]
    return lines


def _kept_parts(made: masks.MaskResult) -> str:
    """Return which of the connected parts above the threshold were kept."""
    count, kept = made.component_count, made.recipe.components
    kept = 1 if kept is None else kept
    if count == 1:
        return "1 part"
    if made.recipe.at_A is not None:
        return f"1 of {count} parts kept"
    if kept == 0 or kept >= count:
        return f"all {count} parts kept"
    return f"largest of {count} parts kept" if kept == 1 else f"largest {kept} of {count} parts kept"
