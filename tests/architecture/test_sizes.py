"""A module has at most 600 lines and a function body at most 80: measured, not remembered."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MAX_MODULE_LINES = 600
MAX_BODY_LINES = 80
FOLDERS = ("core", "lrwidgets", "tests", "scripts")


def python_files(root: Path) -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def body_lengths(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function's body, its docstring not counted."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno - body[0].lineno + 1) if body else 0


def test_no_module_is_longer_than_600_lines(root: Path) -> None:
    lengths = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in python_files(root)}
    assert "core/lrcore/units.py" in lengths
    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_no_function_body_is_longer_than_80_lines(root: Path) -> None:
    too_long = {
        f"{path.relative_to(root)}:{name}": length
        for path in python_files(root)
        for name, length in body_lengths(path.read_text())
        if length > MAX_BODY_LINES
    }
    assert too_long == {}


@pytest.mark.parametrize(
    ("source", "length"),
    [
        ("def f():\n    return 1\n", 1),
        ('def f():\n    """Two\n    lines."""\n    a = 1\n\n    return a\n', 3),
        ('def f():\n    """Only that."""\n', 0),
        ("async def f(\n    a,\n):\n    return (\n        a\n    )\n", 3),
    ],
)
def test_the_ruler(source: str, length: int) -> None:
    assert list(body_lengths(source)) == [("f", length)]
