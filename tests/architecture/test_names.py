"""Names and docstrings keep the language of the field: some may not come back, and some counts may only fall."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.architecture.sources import definitions, local_names, modules, positional_count, public_member_count

GONE = {
    "told", "tell", "held", "measured", "worked", "joined", "sent", "merged", "placed", "windowed", "moved", "swept",
    "framed", "returned", "rewritten", "brought_back", "seen_through", "seen_under", "go_over", "lessons", "amid",
    "beside", "about", "under", "outside", "alike", "uneven", "steadied", "between", "doubts", "secure", "spread",
    "middles", "news", "known", "question", "dress", "thread", "Told", "Held", "Learned", "Found", "Left", "Part",
    "Common", "Crew", "Errand", "Hands", "Still", "Silence", "Sights", "Hinge", "Scene", "Swing", "Trying", "Asked",
    "apart", "still", "errands", "doubting", "telling", "finding_out", "passes", "rework", "swing", "doors", "mishaps",
    "present", "trials", "uncertain", "heldout", "locres_", "census", "framing", "clock", "soundness",
}  # fmt: skip
"""Names of definitions and modules that said nothing to somebody from the field."""
VAGUE = re.compile(r"(What|Where|Whether|Who|How|That|Which)\b")
MOST = {"vague docstrings": 0, "functions of many arguments": 5, "classes of many members": 2}
"""How many there may be; these numbers may only fall."""


def test_old_names_do_not_come_back(root: Path) -> None:
    back = {name: local_names(tree) & GONE for name, tree in modules(root).items()}
    assert {name: names for name, names in back.items() if names} == {}
    assert [name for name in modules(root) if name.rsplit(".", 1)[-1] in GONE] == []


def test_a_public_class_name_stands_once(root: Path) -> None:
    names = Counter(
        node.name
        for tree in modules(root).values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def vague_docstrings(root: Path) -> list[str]:
    return [
        f"{module}: {name}"
        for module, tree in modules(root).items()
        for name, node in [("", tree), *definitions(tree)]
        if VAGUE.match(ast.get_docstring(node) or "")  # type: ignore[arg-type]
    ]


def test_docstrings_say_what_a_thing_does(root: Path) -> None:
    found = vague_docstrings(root)
    assert len(found) <= MOST["vague docstrings"], found


def listed_attributes(node: ast.ClassDef) -> set[str]:
    """Return the names in the Attributes section of a class's docstring; empty without one."""
    section = re.search(r"^Attributes\n-+\n(.*?)(?=\n\n|\Z)", ast.get_docstring(node) or "", re.MULTILINE | re.DOTALL)
    heads = [line.split(" :")[0] for line in section[1].splitlines() if line[:1].strip()] if section else []
    return {name.strip() for head in heads for name in head.split(",")}


def test_listed_attributes_of_data_classes_are_fields(root: Path) -> None:
    wrong = {}
    for module, tree in modules(root).items():
        for name, node in definitions(tree):
            if isinstance(node, ast.ClassDef) and "dataclass" in str([ast.unparse(d) for d in node.decorator_list]):
                fields = {ast.unparse(child.target) for child in node.body if isinstance(child, ast.AnnAssign)}
                if missing := listed_attributes(node) - fields:
                    wrong[f"{module}: {name}"] = missing
    assert wrong == {}


def test_few_functions_take_many_arguments(root: Path) -> None:
    found = [
        f"{module}: {name}"
        for module, tree in modules(root).items()
        if ".kernels." not in module  # called by position, as CUDA kernels are
        for name, node in definitions(tree)
        if positional_count(node) > 7
    ]
    assert len(found) <= MOST["functions of many arguments"], found


def test_few_classes_have_many_members(root: Path) -> None:
    found = [
        f"{module}: {name}"
        for module, tree in modules(root).items()
        for name, node in definitions(tree)
        if public_member_count(node) > 25
    ]
    assert len(found) <= MOST["classes of many members"], found


@pytest.mark.parametrize(
    ("source", "arguments", "members"),
    [
        ("def f(self, a, b, *, c): ...", 2, 0),
        ("class A:\n    x: int\n    def _y(self): ...\n    def z(self): ...", 0, 2),
    ],
)
def test_counting(source: str, arguments: int, members: int) -> None:
    ((_, node),) = list(definitions(ast.parse(source)))[:1]
    assert positional_count(node) == arguments
    assert public_member_count(node) == members
