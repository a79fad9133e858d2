"""Importing lrcore or lrwidgets stays light: no compiler, no GPU library and no user interface comes with it."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("numba", "cupy", "napari", "ipywidgets", "IPython", "qtpy", "matplotlib.pyplot", "scipy.stats")


def loaded_by(modules: list[str]) -> set[str]:
    """Which heavy modules a fresh interpreter holds after importing `modules`.

    Zarr imports CuPy wherever it is installed; that is forgotten first, so that what is ours shows.
    """
    code = (
        "import importlib, sys, zarr"
        "\nfor name in [m for m in sys.modules if m.startswith('cupy')]: del sys.modules[name]"
        f"\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split()) & set(HEAVY)


def modules_of(folder: Path) -> list[str]:
    paths = (path.relative_to(folder.parent).with_suffix("") for path in folder.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def is_twin(module: str) -> bool:
    """Whether it belongs to the optimised twins: in a kernel's folder neither its contract nor its reference."""
    if module in ("lrcore.kernels.simd", "lrcore.kernels.sincos"):  # what the CPU twins share
        return True
    return module.startswith("lrcore.kernels.") and module.count(".") == 3 and not module.endswith(".reference")


def test_the_packages_pull_in_nothing_heavy() -> None:
    assert loaded_by(["lrcore", "lrwidgets"]) == set()


def test_only_the_compiled_kernels_pull_in_a_compiler(root: Path) -> None:
    modules = [name for name in modules_of(root / "core" / "lrcore") if not is_twin(name)]
    assert {"lrcore.compute.backend", "lrcore.kernels.project", "lrcore.kernels.project.reference"} <= set(modules)
    assert loaded_by(modules) == set()


def test_the_ruler() -> None:
    assert loaded_by(["matplotlib.pyplot"]) == {"matplotlib.pyplot"}
