"""Records as small HTML tables, for whatever shows them so; text alone, no package of a user interface."""

from collections.abc import Mapping
from html import escape
from typing import Any


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """A table of names and values below a title; colours are those of the page."""
    cell = '<td style="text-align: left; padding: 1px 8px">'
    lines = "".join(
        f"<tr>{cell}{escape(name)}</td>{cell}{escape(str(value))}</td></tr>" for name, value in rows.items()
    )
    return f'<table class="lrw-table"><caption style="text-align: left"><b>{escape(title)}</b></caption>{lines}</table>'
