"""The documents form one site: every page is in a table of contents, and nothing is fetched from a network."""

import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import lrwidgets

GENERATED = ("_build", "_extensions", "_templates", "_static", "api", "notebooks")
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.DOTALL | re.MULTILINE)
DECISION = re.compile(r"(\d{3})-[a-z0-9-]+\.md")


def pages(root: Path) -> set[str]:
    """The pages in docs/ that are stored, without suffix."""
    names = (path.relative_to(root / "docs") for path in (root / "docs").rglob("*.md"))
    return {name.with_suffix("").as_posix() for name in names if name.parts[0] not in GENERATED}


def entries(path: Path, docs: Path) -> set[str]:
    """The pages that the tables of contents of a page name, patterns expanded."""
    found = set()
    for block in TOCTREE.findall(path.read_text()):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                target = re.sub(r".*<(.+)>", r"\1", line)
                pattern = (path.parent / target).resolve().relative_to(docs).as_posix()
                matches = {each.relative_to(docs).with_suffix("").as_posix() for each in docs.glob(f"{pattern}.md")}
                found |= matches or {pattern}
    return found


def decisions(root: Path) -> dict[str, Path]:
    """The decisions by number."""
    paths = (root / "docs/decisions").glob("*.md")
    return {path.name[:3]: path for path in paths if path.name != "README.md"}


def extension(root: Path, name: str) -> ModuleType:
    """A module of docs/_extensions."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    spec = spec_from_file_location(name, root / "docs/_extensions" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_one_table_of_contents(root: Path) -> None:
    docs = root / "docs"
    listed = set().union(*(entries(docs / f"{page}.md", docs) for page in pages(root)))
    assert {page for page in pages(root) if page != "index"} - listed == set()
    assert {entry for entry in listed - pages(root) if not entry.startswith(("notebooks/", "api/"))} == set()


def test_every_notebook_is_a_page(root: Path) -> None:
    listed = entries(root / "docs/notebooks.md", root / "docs")
    assert listed == {f"notebooks/{path.stem}" for path in (root / "notebooks").glob("*.ipynb")}


def test_a_decision_begins_with_its_number(root: Path) -> None:
    for number, path in decisions(root).items():
        assert DECISION.fullmatch(path.name)
        assert re.match(rf"# {number} [`A-Z]", path.read_text()), path.name


def test_the_index_of_decisions_has_every_title(root: Path) -> None:
    index = (root / "docs/decisions/README.md").read_text()
    titles = {path.name: path.read_text().splitlines()[0].removeprefix("# ") for path in decisions(root).values()}
    rows = dict(re.findall(r"^\| \[\d{3}\]\(([^)]+)\) \| (.*?) \|", index, re.MULTILINE))
    assert {name: f"{name[:3]} {title}" for name, title in rows.items()} == titles


def test_the_index_of_decisions_explains_gaps(root: Path) -> None:
    explained = set()
    for line in (root / "docs/decisions/README.md").read_text().splitlines():
        if line.startswith("The numbers"):
            for first, last in re.findall(r"(\d{3})(?: to (\d{3}))?", line):
                explained |= {f"{number:03d}" for number in range(int(first), int(last or first) + 1)}
    used = set(decisions(root))
    missing = {f"{number:03d}" for number in range(1, int(max(used)) + 1)} - used
    assert explained == missing


def test_the_site_is_built_without_a_network(root: Path) -> None:
    conf = (root / "docs/conf.py").read_text()
    for network in ("intersphinx", "http://", "https://", "mathjax"):
        assert network not in conf
    assert '"offline_check"' in conf
    assert "nb_ipywidgets_js = {}" in conf


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<script async="async" src="//cdn.example/a.js"></script>',
        '<link href="https://fonts.example/a.css" rel="stylesheet">',
        '<img alt="" src="http://example.org/a.png">',
        "@import url(https://fonts.example/a.css);",
        'src: url("https://fonts.example/a.woff2")',
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(root: Path, text: str) -> None:
    assert len(list(extension(root, "offline_check").external_loads(text))) == 1


def test_a_link_loads_nothing(root: Path) -> None:
    text = '<a href="https://docs.xarray.dev">xarray</a> <img src="_images/demo.png"> <link rel="next" href="a.html">'
    assert list(extension(root, "offline_check").external_loads(text)) == []


def test_links_of_a_notebook_fit_the_site(root: Path) -> None:
    cells = [{"cell_type": "markdown", "source": ["see [results](../docs/results.md)"]}]
    notebook = {"cells": cells, "metadata": {"language_info": {}}}
    adapted = extension(root, "notebook_pages").adapted(notebook)
    assert adapted["cells"][0]["source"] == "see [results](../results.md)"


def test_the_citation_is_of_this_version(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == lrwidgets.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert citation["repository-code"] == project["urls"]["Source"]
