"""What is to be known of a mask, in HTML."""

import html
from collections.abc import Sequence

from lrcore import masks
from lrcore.records import Volume
from lrwidgets import mask_settings
from lrwidgets.jupyter.base import BAD
from lrwidgets.mask_settings import Settings


def facts(made: masks.Made, given: Volume | None, checks: Sequence[masks.Check]) -> str:
    """See lrwidgets.mask_settings."""
    lines = mask_settings.facts(made, given, checks)
    colours = ["" if passed else f"color: {BAD}; font-weight: 600" for _, passed in lines]
    shown = zip(lines, colours, strict=True)
    return "".join(f'<div style="line-height: 1.4; {colour}">{html.escape(line)}</div>' for (line, _), colour in shown)


def listed(settings: Settings) -> str:
    """See lrwidgets.mask_settings."""
    lines = mask_settings.listed(settings)
    return "<br>".join(map(html.escape, lines)) or "<i>no shapes, models or other masks</i>"
