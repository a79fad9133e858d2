"""docs/formats.md names every column that the code names: a new one without a line there is a failure."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lrcore import io

STAR_NAME = re.compile(r"^(?:rln|lrw)[A-Z]\w+$")
CS_NAME = re.compile(r"^(?:blob|ctf|alignments3D|alignments3D_multi|location|star_optics|lrwCs)/[\w/:]+$")


def named(source: str) -> Iterator[str]:
    """Every string of a module that is the name of a column, docstrings aside."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for text in node.value.split() if " " not in node.value.strip() else []:
                if STAR_NAME.match(text) or CS_NAME.match(text):
                    yield text


def missing(names: set[str], document: str) -> set[str]:
    told = set(re.findall(r"[\w/:]+", document))
    return {name for name in names if name not in told}


@pytest.fixture(scope="module")
def document(root: Path) -> str:
    return (root / "docs" / "formats.md").read_text()


def test_every_column_that_the_code_names_is_in_the_document(root: Path, document: str) -> None:
    files = [path for folder in ("core/lrcore", "lrwidgets") for path in (root / folder).rglob("*.py")]
    names = {name for path in files for name in named(path.read_text())}
    assert {"rlnAngleRot", "rlnJobOptionValue", "lrwFlags", "blob/sign", "location/micrograph_psize_A"} <= names
    assert missing(names, document) == set()


def test_every_column_that_is_written_is_in_the_document(make, document: str) -> None:
    """Those whose names the code puts together, too."""
    make.stack()
    optics = make.optics() | {"rlnOddZernike": ["[0.1,-0.2]", "[]"], "rlnEvenZernike": ["[1.5]", "[0,2]"]}
    particles = io.read_particles(make.star(optics=optics))
    with pytest.warns(UserWarning, match="Zernike"):
        io.write_particles(make.folder / "out.cs", particles, particles.poses)
    fields = set(np.load(make.folder / "out.cs").dtype.names)
    assert {"ctf/scale_const", "alignments3D/split"} <= fields
    assert missing(fields, document) == set()
    cs = io.read_particles(make.folder / "out.cs")
    io.write_particles(make.folder / "back.star", cs, cs.poses)
    columns = set(re.findall(r"^_(\w+)", (make.folder / "back.star").read_text(), re.MULTILINE))
    assert {"rlnImageDimensionality", "rlnAngleRot"} <= columns
    assert missing(columns, document) == set()


def test_the_ruler(document: str) -> None:
    assert set(named('A = "rlnNoSuchColumn"\nB = {"ctf/none_A": 1.0}\n')) == {"rlnNoSuchColumn", "ctf/none_A"}
    assert missing({"rlnNoSuchColumn", "ctf/none_A"}, document) == {"rlnNoSuchColumn", "ctf/none_A"}
