"""What the documents say about the code is there: every test they name, and every file that they link."""

import re
from pathlib import Path

import pytest

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
GENERATED = ("_build", "api", "notebooks")
"""Folders in docs/ that `make docs` makes; no document links there."""
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def documents(root: Path) -> list[Path]:
    """Return the documents, without what `make docs` generates."""
    paths = [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]
    return [
        path
        for path in paths
        if not path.is_relative_to(root / "docs") or path.parts[len(root.parts) + 1] not in GENERATED
    ]


def missing_tests(text: str, root: Path) -> list[str]:
    """The tests that `text` names, as `file` or `file::function`, and that do not exist."""
    return [
        f"{file}::{name}"
        for file, name in NAMED_TEST.findall(text)
        if not (root / file).is_file() or (name and f"def {name}(" not in (root / file).read_text())
    ]


def test_every_test_named_in_a_document_exists(root: Path) -> None:
    missing = {path.name: missing_tests(path.read_text(), root) for path in documents(root)}
    assert "conventions.md" in missing
    assert {name: tests for name, tests in missing.items() if tests} == {}


def leads_somewhere(target: Path, root: Path) -> bool:
    """Return whether a file is there on a repository host, too: not only where `make docs` has run."""
    generated = {root / "docs" / name for name in GENERATED}
    return target.exists() and not generated & {target.resolve(), *target.resolve().parents}


def test_every_relative_link_leads_somewhere(root: Path) -> None:
    dead = [
        f"{path.name}: {link}"
        for path in documents(root)
        for link in LINK.findall(path.read_text())
        if not leads_somewhere(path.parent / link, root)
    ]
    assert dead == []


@pytest.mark.parametrize("name", ["tests/none.py", "tests/conftest.py::none"])
def test_the_ruler(root: Path, name: str) -> None:
    assert len(missing_tests(f"see `{name}`", root)) == 1
    assert missing_tests("see `tests/conftest.py`", root) == []
