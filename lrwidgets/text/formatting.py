"""Format iterations and values as lines of text."""

from typing import Any

from lrcore.records import IterationSummary

HISTORY_HEADER = (
    "      resolution Å       angle °         shift Å       at extents %    memory  particles/s\n"
    "iter  masked   corr.   input   last    input   last    rot.  shift       MB"
)

SHOWN_BELOW = 0.995
"""Share of the particles that hold the body below which it is shown."""


def format_iteration(summary: IterationSummary) -> str:
    """Format one iteration as a row below HISTORY_HEADER.

    Columns: resolution at FSC 0.143 inside the mask, and corrected; median pose changes from the input and since the
    last iteration; percentage of particles at the search extents; memory; particles per second of each stage.
    """
    s = summary
    rates = "  ".join(f"{stage} {rate:.0f}" for stage, rate in s.particles_per_s.items())
    skipped = f"  skipped {s.skipped}" if s.skipped else ""
    missing = f"  body in {100 * s.present_share:.0f} %" if s.present_share < SHOWN_BELOW else ""
    return (
        f"{s.iteration:4d}  {s.resolution_masked_A:6.2f}  {s.resolution_corrected_A:6.2f}"
        f"  {s.angle_from_input_deg:6.2f} {s.angle_since_last_deg:6.2f}"
        f"   {s.shift_from_input_A:6.2f} {s.shift_since_last_A:6.2f}"
        f"  {100 * s.at_rotation_extent:6.1f} {100 * s.at_shift_extent:6.1f}"
        f"  {s.memory_MB:7.0f}  {rates}{skipped}{missing}"
    ).rstrip()


def format_for_display(value: Any) -> str:
    """Format a value for display: lists with commas, "key: value" for dicts, numbers without trailing zeros."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {format_for_display(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(format_for_display, value)) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
