"""A check of the built site: no page loads a script, style sheet, font or picture from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*\brel\s*=\s*["']?(?:stylesheet|preload|prefetch|preconnect|icon|shortcut icon))"""
    r"""[^>]*\bhref\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|@import\s+(?:url\()?["']?((?:https?:)?//[^"'\s)]+)"""
    r"""|url\(\s*["']?((?:https?:)?//[^"'\s)]+)""",
    re.IGNORECASE,
)

logger = logging.getLogger(__name__)


def external_loads(text: str) -> Iterator[str]:
    """Yield the addresses on other hosts that a page or style sheet loads by itself. Links do not count."""
    for match in LOADS.finditer(text):
        yield next(group for group in match.groups() if group)


def _check(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for path in sorted(Path(app.outdir).rglob("*")):
            if path.suffix in {".html", ".css"}:
                for address in external_loads(path.read_text(errors="replace")):
                    logger.warning("%s loads %s", path.relative_to(app.outdir), address, type="offline")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the check."""
    app.connect("build-finished", _check)
    return {"version": "1", "parallel_read_safe": True}
