"""API pages from the `__all__` of the public modules, and links from annotations to these pages."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from public_modules import PUBLIC_MODULES
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

PACKAGES = (("core/lrcore", "lrcore"), ("lrwidgets", "lrwidgets"))

ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[([~\w.]+)\]\]")

logger = logging.getLogger(__name__)


def write(docs: Path) -> list[Path]:
    """Write `api/packages.md`, the table of packages, and a page for each public module; return these pages.

    Pages of modules and objects that are no longer public are removed.
    """
    folder = docs / "api"
    folder.mkdir(exist_ok=True)
    modules = {name: import_module(name) for name in PUBLIC_MODULES}
    for name, module in modules.items():
        _write_if_changed(folder / f"{name}.rst", page(module))
    _write_if_changed(folder / "packages.md", package_table(docs.parent))
    expected = {*modules, *(f"{name}.{key}" for name, module in modules.items() for key in public_objects(module))}
    for path in folder.rglob("*.rst"):
        if path.stem not in expected:
            path.unlink()
    return [folder / f"{name}.rst" for name in modules]


def public_objects(module: ModuleType) -> dict[str, Any]:
    """Return the objects that `__all__` names, without modules and dunder names."""
    names = [name for name in getattr(module, "__all__", ()) if not name.startswith("__")]
    objects = {name: getattr(module, name) for name in names}
    return {name: each for name, each in objects.items() if not inspect.ismodule(each)}


def page(module: ModuleType) -> str:
    """Return the page of a module as reStructuredText: its docstring and tables of classes, functions and data."""
    name, objects = module.__name__, public_objects(module)
    is_function = {key: callable(each) and not inspect.isclass(each) for key, each in objects.items()}
    sections = {
        "Classes": [key for key, each in objects.items() if inspect.isclass(each)],
        "Functions": [key for key in objects if is_function[key]],
        "Constants": [key for key, each in objects.items() if not inspect.isclass(each) and not is_function[key]],
    }
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {name}", ""]
    for title, keys in sections.items():
        if keys:
            lines += [title, "-" * len(title), "", ".. autosummary::", "   :toctree: generated", ""]
            lines += [f"   {key}" for key in sorted(keys, key=str.lower)] + [""]
    return "\n".join(lines)


def package_table(root: Path) -> str:
    """Return a Markdown table of the packages: name, first line of the docstring, modules."""
    rows = ["| package | contents | modules |", "|---|---|---|"]
    for folder, name in PACKAGES:
        rows += [f"| **`{name}`** | {_summary(root / folder / '__init__.py')} | {_modules(root / folder)} |"]
        rows += [
            f"| `{name}.{init.parent.name}` | {_summary(init)} | {_modules(init.parent)} |"
            for init in sorted((root / folder).glob("*/__init__.py"))
        ]
    return "\n".join(rows) + "\n"


def _summary(init: Path) -> str:
    docstring = ast.get_docstring(ast.parse(init.read_text())) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _modules(folder: Path) -> str:
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return ", ".join(name for name in sorted(names) if not name.startswith("_"))


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def public_names() -> dict[str, str]:
    """Return a table from where a public object is defined to the name under which it is documented."""
    table: dict[str, str] = {}
    for name in PUBLIC_MODULES:
        for key, each in public_objects(import_module(name)).items():
            home = f"{getattr(each, '__module__', name)}.{getattr(each, '__qualname__', key)}"
            table.setdefault(home, f"{name}.{key}")
    return table


def undocumented() -> Iterator[str]:
    """Yield the public classes, functions, methods and properties that have no docstring."""
    for name in PUBLIC_MODULES:
        for key, each in public_objects(import_module(name)).items():
            if (inspect.isclass(each) or inspect.isfunction(each)) and not inspect.getdoc(each):
                yield f"{name}.{key}"
            if inspect.isclass(each):
                yield from (f"{name}.{key}.{member}" for member in _undocumented_members(each))


def _undocumented_members(cls: type) -> Iterator[str]:
    for key, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not key.startswith("_") and inspect.isfunction(function) and not inspect.getdoc(function):
            yield key


def _check_docstrings(app: Sphinx) -> None:
    for name in undocumented():
        logger.warning("public object without a docstring: %s", name, type="api", subtype="docstring")


def _escape_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep |x| in a docstring as it is: outside of code, reStructuredText reads it as a substitution."""
    for row, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        lines[row] = "`".join(parts)


def _shorten_arrays(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write array types as in the sources, `NDArray[float32]`."""
    return _short(signature), _short(returns)


def _short(text: str | None) -> str | None:
    return None if text is None else ARRAY.sub(r"NDArray[\1]", text)


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement) -> nodes.Node | None:
    """Link a Python name to its public page; a name without a page stays text."""
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    public = app.env.api_names.get(target)  # type: ignore[attr-defined]
    if public is not None and node.get("refdoc"):
        found = env.domains["py"].resolve_xref(  # type: ignore[call-overload]
            env, node["refdoc"], app.builder, "obj", public, node, contnode
        )
        if found is not None:
            return found
    return contnode


def _write(app: Sphinx, config: Config) -> None:
    config.autosummary_generate = [str(path) for path in write(Path(app.srcdir))]


def _remember_names(app: Sphinx) -> None:
    app.env.api_names = public_names()  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the check of docstrings and the links."""
    app.connect("config-inited", _write)
    app.connect("builder-inited", _remember_names)
    app.connect("builder-inited", _check_docstrings)
    app.connect("autodoc-process-docstring", _escape_bars)
    app.connect("autodoc-process-signature", _shorten_arrays)
    app.connect("missing-reference", _resolve)
    return {"version": "1", "parallel_read_safe": False}
