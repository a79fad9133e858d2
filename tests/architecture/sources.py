"""Read the syntax of the two packages, for the tests of their structure."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = {"lrcore": "core/lrcore", "lrwidgets": "lrwidgets"}


@cache
def modules(root: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of every module of both packages, by dotted name."""
    return {name: ast.parse(path.read_text()) for name, path in module_paths(root).items()}


@cache
def module_paths(root: Path) -> dict[str, Path]:
    """Return the path of every module of both packages, by dotted name."""
    paths = {}
    for package, folder in PACKAGES.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            paths[".".join([package, *parts]).removesuffix(".__init__")] = path
    return paths


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield name and node of each function, class and method, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node


def positional_count(node: ast.AST) -> int:
    """Return how many arguments a function takes by position, without self and cls."""
    if not isinstance(node, ast.FunctionDef):
        return 0
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def public_member_count(node: ast.AST) -> int:
    """Return the number of public methods, properties and fields of a class."""
    if not isinstance(node, ast.ClassDef):
        return 0
    names = set()
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(child.name)
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            names.add(child.target.id)
    return sum(not name.startswith("_") for name in names)


def local_names(tree: ast.Module) -> set[str]:
    """Return the names of the definitions at the top of a module."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
