"""What the code may not do, read off its syntax: run what a file says, listen to a network, trust the wall clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "runs text",
    "__import__": "imports by name",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "yaml.load": "makes any object (use safe_load)",
    "yaml.unsafe_load": "makes any object",
    "yaml.full_load": "makes objects",
    "time.time": "a clock that can jump (use monotonic or perf_counter)",
    "datetime.now": "a clock that can jump",
    "datetime.datetime.now": "a clock that can jump",
    "tempfile.mktemp": "a name that another may take",
}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "socket",
    "socketserver",
    "http.server",
}
DATES = {"core/lrcore/io/cs_particles.py", "lrwidgets/bench/relion.py"}
"""Where the time of day is meant: in a file's date of making, and beside those of another program's files."""
METHODS = {"listen", "bind", "serve_forever"}
"""Of sockets and servers; no other object here has them."""


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes; empty for another expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = dotted(node.value)
        return f"{above}.{node.attr}" if above else ""
    return ""


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"imports {one.name}" for one in node.names if one.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS:
                yield f"{name}: {CALLS[name]}"
            if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                yield f"{node.func.attr}: listens"
            for word in node.keywords:
                on = isinstance(word.value, ast.Constant) and bool(word.value.value)
                if word.arg in ("allow_pickle", "shell") and not (isinstance(word.value, ast.Constant) and not on):
                    yield f"{word.arg} is not off"
            if name in ("np.load", "numpy.load") and not any(word.arg == "allow_pickle" for word in node.keywords):
                yield "np.load without allow_pickle=False"


def test_no_file_can_make_it_do_anything(root: Path) -> None:
    files = [path for package in ("core/lrcore", "lrwidgets") for path in (root / package).rglob("*.py")]
    assert len(files) > 100
    found = {str(path.relative_to(root)): list(faults(path.read_text())) for path in files}
    for name in DATES:
        found[name] = [bad for bad in found[name] if "clock" not in bad]
    assert {path: bad for path, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import pickle",
        "from socket import socket",
        "yaml.load(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, x, allow_pickle=flag)",
        "subprocess.run('ls', shell=True)",
        "server.bind(('', 80))",
        "began = time.time()",
    ],
)
def test_the_ruler(source: str) -> None:
    assert list(faults(source))


@pytest.mark.parametrize(
    "source", ["yaml.safe_load(text)", "np.load(path, allow_pickle=False)", "re.compile('x')", "time.perf_counter()"]
)
def test_the_ruler_lets_good_code_be(source: str) -> None:
    assert not list(faults(source))
