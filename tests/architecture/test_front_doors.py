"""The front doors: what they offer, what documents import from them, and that a user's script is type-checked."""

import ast
import inspect
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).parents[2] / "docs/_extensions/public_modules.py"
DOORS: tuple[str, ...] = runpy.run_path(str(LIST))["PUBLIC_MODULES"]
OPEN = {*DOORS, "lrcore.testing"}
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SCRIPT = """
from pathlib import Path

import lrcore
import lrwidgets
from lrcore import Job, Particles, Progress, RefineSpec, Step, Volume, get_backend, iterate, read_particles, start
from lrwidgets import Session, findings, plots, sweep


def refine(folder: Path) -> list[float]:
    particles: Particles = read_particles(folder / "particles.star")
    mask: Volume = lrcore.read_volume(folder / "mask.mrc")
    job = Job(particles, mask, RefineSpec(max_iterations=2))
    backend = get_backend("cpu")
    resolutions: list[float] = []
    first: Step | None = None
    for event in start(job, backend):
        if isinstance(event, Step):
            first = event
    assert first is not None
    for event in iterate(job, first, first, backend):
        if isinstance(event, Progress):
            print(event.stage, event.done)
        else:
            resolutions.append(event.history[-1].resolution_masked_A)
            lrcore.write_volume(folder / "map.mrc", lrcore.final_map(job, event))
    return resolutions


def explore(folder: Path) -> str:
    with Session.load(folder / "particles.star", folder / "mask.mrc", out=folder / "run.zarr") as session:
        session.run(2, wait=True)
        node = session.path()[-1].id
        for finding in findings(session, node):
            print(finding.name)
        for event in sweep(session, {"rotation_prior_sd_deg": [2.0, 4.0]}):
            if not isinstance(event, Progress):
                print(event.sizes)
        plots.save(plots.fsc(session.results()), folder / "fsc.png")
        comparison = session.compare(node)
        print(lrwidgets.__version__)
        return comparison.summary_line


print(refine(Path("data")), explore(Path("data")))
"""


@pytest.mark.parametrize("door", DOORS)
def test_every_name_is_there(door: str) -> None:
    module = import_module(door)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


def test_the_names_that_users_were_promised() -> None:
    import lrcore
    import lrwidgets

    assert {"Session", "make_example", "sweep", "findings", "show_napari", "plots", "jupyter"} <= set(lrwidgets.__all__)
    assert lrwidgets.__version__
    assert lrcore.advance is lrcore.run_iteration
    assert lrcore.pick is lrcore.get_backend
    assert lrcore.whole_map is lrcore.map_with_surroundings
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        lrcore.nothing_of_the_kind  # noqa: B018


def code_of(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the Python code of README, documents and notebooks, with where it stands."""
    for path in [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        *sorted((root / "docs/guide").glob("*.md")),
    ]:
        for block in PYTHON.findall(path.read_text()):
            yield path.name, block
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield path.name, "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def imported(code: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import from the two packages."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("lrcore", "lrwidgets"):
            for alias in node.names:
                yield str(node.module), alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in ("lrcore", "lrwidgets"):
                    yield alias.name, "__all__"


def test_documents_import_from_the_front_doors_alone(root: Path) -> None:
    found = [(where, *pair) for where, code in code_of(root) for pair in imported(code)]
    assert len(found) > 20
    closed = [one for one in found if one[1] not in OPEN]
    assert closed == []
    for where, module, name in found:
        door = import_module(module)
        public = getattr(door, "__all__", dir(door))
        assert name in public or name in ("__all__", "__version__"), f"{where}: from {module} import {name}"


def test_a_script_of_a_user_passes_mypy(root: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    run = subprocess.run([*command, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    (tmp_path / "wrong.py").write_text("from lrcore import read_particles\n\nx: int = read_particles(1)\n")
    run = subprocess.run([*command, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.stdout.count("error:") == 2, run.stdout


def public_functions() -> Iterator[tuple[str, Any]]:
    """Yield the functions of the front doors, and the public methods of `Session`."""
    seen = set()
    for door in DOORS:
        module = import_module(door)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) and thing not in seen:
                seen.add(thing)
                yield f"{door}.{name}", thing
    session = import_module("lrwidgets").Session
    for name, thing in inspect.getmembers(session, inspect.isfunction):
        if not name.startswith("_"):
            yield f"Session.{name}", thing


def documented_parameters(thing: Any) -> list[str]:
    """Return the names in the section Parameters of a docstring."""
    text = inspect.getdoc(thing) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    lines = section[1].splitlines() if section else []
    return [name.strip("* ") for line in lines if re.match(r"[\w*]", line) for name in line.split(" : ")[0].split(",")]


@pytest.mark.parametrize(
    ("name", "thing"), list(public_functions()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_parameters_are_documented(name: str, thing: Any) -> None:
    parameters = [one for one in inspect.signature(thing).parameters if one != "self"]
    assert inspect.getdoc(thing)
    if parameters:
        assert sorted(documented_parameters(thing)) == sorted(parameters), name
