"""Show the history of a run as a table in HTML, which the notebook and Qt both draw."""

import html
from collections.abc import Sequence

from lrcore.records import IterationSummary
from lrwidgets.text.formatting import SHOWN_BELOW

GROUPS = (
    ("", ("Iteration",)),
    ("Resolution, Å", ("masked", "corrected")),
    ("From the input", ("°", "Å")),
    ("Since the last", ("°", "Å")),
    ("At extents, %", ("rotation", "shift")),
    ("", ("Particles/s", "Memory, MB")),
)
"""Title of each group of columns, and of each column. Changes of the poses are medians."""
CELL = "padding: 1px 7px; text-align: right"


def history_html(rows: Sequence[IterationSummary]) -> str:
    """Return a table with a row for each iteration; empty before the start."""
    if not rows:
        return ""
    groups = "".join(
        f'<th colspan="{len(names)}" style="{CELL}; text-align: center">{title}</th>' for title, names in GROUPS
    )
    names = "".join(f'<th style="{CELL}">{name}</th>' for _, names in GROUPS for name in names)
    lines = "".join(f"<tr>{''.join(map(_cell, _values(row)))}</tr>" for row in rows)
    style = "border-collapse: collapse; font-variant-numeric: tabular-nums; line-height: 1.35"
    return f'<table style="{style}"><tr>{groups}</tr><tr>{names}</tr>{lines}</table>'


def _values(row: IterationSummary) -> list[str]:
    rates = ", ".join(f"{stage} {rate:,.0f}" for stage, rate in row.particles_per_s.items())
    skipped = f" ({row.skipped} skipped)" if row.skipped else ""
    missing = f" (body in {100 * row.present_share:.0f} %)" if row.present_share < SHOWN_BELOW else ""
    return [
        f"{row.iteration}{skipped}{missing}",
        f"{row.resolution_masked_A:.2f}",
        f"{row.resolution_corrected_A:.2f}",
        f"{row.angle_from_input_deg:.2f}",
        f"{row.shift_from_input_A:.2f}",
        f"{row.angle_since_last_deg:.2f}",
        f"{row.shift_since_last_A:.2f}",
        f"{100 * row.at_rotation_extent:.1f}",
        f"{100 * row.at_shift_extent:.1f}",
        rates or "–",
        f"{row.memory_MB:,.0f}",
    ]


def _cell(text: str) -> str:
    return f'<td style="{CELL}">{html.escape(text)}</td>'
