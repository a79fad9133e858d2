"""Describe a mask in HTML."""

import html
from collections.abc import Sequence

from lrcore import masks
from lrcore.records import Volume
from lrwidgets.gui import mask_settings
from lrwidgets.gui.mask_settings import MaskSettings
from lrwidgets.jupyter.base import BAD


def mask_facts_html(made: masks.MaskResult, given: Volume | None, checks: Sequence[masks.MaskCheck]) -> str:
    """Return size and checks of a mask as HTML."""
    lines = mask_settings.describe_mask(made, given, checks)
    colours = ["" if passed else f"color: {BAD}; font-weight: 600" for _, passed in lines]
    shown = zip(lines, colours, strict=True)
    return "".join(f'<div style="line-height: 1.4; {colour}">{html.escape(line)}</div>' for (line, _), colour in shown)


def mask_parts_html(settings: MaskSettings) -> str:
    """Return shapes, models and other masks as HTML."""
    lines = mask_settings.describe_parts(settings)
    return "<br>".join(map(html.escape, lines)) or "<i>no shapes, models or other masks</i>"
