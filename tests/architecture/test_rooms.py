"""The packages keep their rooms: where modules lie, what commands are called, which modules strings name."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from lrwidgets.cli.arguments import COMMANDS
from tests.architecture.sources import PACKAGES, local_names, module_paths, modules

TOP = {
    "lrcore": {"__init__.py", "arrays.py", "errors.py", "html_repr.py", "records.py", "testing.py", "units.py"},
    "lrwidgets": {"__init__.py", "__main__.py", "example.py"},
}
ROOMS = {
    "lrcore": [
        ["simulation", "testing"],
        ["results"],
        ["analysis", "classification"],
        ["refinement"],
        ["motion"],
        ["particles"],
        ["maps", "compute"],
        ["io", "masks", "kernels"],
        ["imaging"],
        ["records"],
        ["arrays", "errors", "units", "html_repr"],
    ],
    "lrwidgets": [
        ["__main__"],
        ["cli"],
        ["bench", "jupyter", "napari_panel"],
        ["gui"],
        ["session"],
        ["export", "plots", "example"],
        ["text"],
    ],
}
"""The layers of the import contracts, from the top."""
NAMED = re.compile(r"(?:lrcore|lrwidgets)(?:\.\w+)+(?::\w+)?")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_top_of_a_package_holds_these_files_alone(package: str, root: Path) -> None:
    folder = root / PACKAGES[package]
    assert {path.name for path in folder.glob("*.py")} == TOP[package]
    rooms = {name for layer in ROOMS[package] for name in layer} - {name.removesuffix(".py") for name in TOP[package]}
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == rooms


@pytest.mark.parametrize("package", PACKAGES)
def test_the_contracts_list_the_same_layers(package: str, root: Path) -> None:
    contracts = (root / "pyproject.toml").read_text()
    for layer in ROOMS[package]:
        line = " | ".join(layer).replace("__main__", "(__main__)")
        assert f'"{line}",' in contracts


def test_every_command_has_the_module_of_its_name() -> None:
    for name in COMMANDS:
        assert callable(getattr(import_module(f"lrwidgets.cli.{name}"), name))


def names_in_strings(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each module that a string of a module names, with that module; docstrings do not count."""
    for name, tree in modules(root).items():
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            plain = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
            if plain and NAMED.fullmatch(node.value):
                yield name, node.value


def layer_of(name: str) -> tuple[int, int]:
    """Return the layer of a module, from the bottom: of its package, and in it."""
    package, _, rest = name.partition(".")
    room = rest.split(".")[0]
    number = next((n for n, layer in enumerate(reversed(ROOMS[package])) if room in layer), len(ROOMS[package]))
    return list(PACKAGES).index(package), number


def test_every_module_that_a_string_names_exists_and_lies_lower(root: Path) -> None:
    found = list(names_in_strings(root))
    for name, text in found:
        module = text.partition(":")[0]
        parent, _, last = module.rpartition(".")
        if module not in module_paths(root) and last in local_names(modules(root)[parent]):
            module = parent
        assert module in module_paths(root), f"{name} names {text}"
        assert layer_of(module) <= layer_of(name), f"{name} names {text}, which lies above it"
    for text in re.findall(r"python_name: (\S+)", (root / "lrwidgets/napari_panel/napari.yaml").read_text()):
        module, _, attribute = text.partition(":")
        assert attribute in local_names(modules(root)[module])


def test_array_types_are_defined_in_one_module(root: Path) -> None:
    elsewhere = [
        f"{name}: {ast.unparse(node)}"
        for name, tree in modules(root).items()
        if name != "lrcore.arrays"
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("npt.NDArray[")
    ]
    assert elsewhere == []


def test_layers_are_counted_from_the_bottom() -> None:
    assert layer_of("lrcore.errors") == (0, 0)
    assert layer_of("lrcore.testing") > layer_of("lrcore.io.mrc_maps") > layer_of("lrcore.records")
    assert layer_of("lrwidgets.cli.bench") > layer_of("lrwidgets.gui.threads") > layer_of("lrcore.simulation.atoms")
