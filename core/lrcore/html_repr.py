"""Show records as small HTML tables, without any user-interface package."""

from collections.abc import Mapping
from html import escape
from typing import Any


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """Return an HTML table of names and values below a title, in the colours of the page.

    Parameters
    ----------
    title
        Caption of the table.
    rows
        Name and value of each row; both are escaped.
    """
    cell = '<td style="text-align: left; padding: 1px 8px">'
    lines = "".join(
        f"<tr>{cell}{escape(name)}</td>{cell}{escape(str(value))}</td></tr>" for name, value in rows.items()
    )
    return f'<table class="lrw-table"><caption style="text-align: left"><b>{escape(title)}</b></caption>{lines}</table>'
