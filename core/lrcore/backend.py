"""Backends: where the hot loops run. Kernels are looked up here, so that importing lrcore compiles nothing."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lrcore.errors import InputError


@dataclass(frozen=True)
class Kernels:
    """The contracts; each is documented in `lrcore.kernels.<folder>`."""

    slices: Callable[..., Any]
    insert: Callable[..., Any]
    score: Callable[..., Any]
    evaluate: Callable[..., Any]
    newton: Callable[..., Any]
    ctf: Callable[..., Any]
    weigh: Callable[..., Any]
    window: Callable[..., Any]
    subtract: Callable[..., Any]
    compare: Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """name: "cpu" or "reference". xp: the array module. threads: workers of FFTs and compiled loops."""

    name: str
    xp: ModuleType
    kernels: Kernels
    threads: int


def pick(name: str = "auto", threads: int | None = None) -> Backend:
    """The backend called `name`: auto, cpu (Numba) or reference (plain NumPy).

    Raises InputError for "cuda" or an unknown name.
    """
    threads = threads or len(os.sched_getaffinity(0))
    if name in ("auto", "cpu"):
        return Backend("cpu", np, _cpu_kernels(threads), threads)
    if name == "reference":
        return Backend("reference", np, _kernels("reference"), threads)
    if name == "cuda":
        raise InputError("backend cuda: this version has no GPU kernels yet; use --backend cpu")
    raise InputError(f"backend {name!r} is unknown; use auto or cpu")


def _cpu_kernels(threads: int) -> Kernels:
    import numba

    numba.config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR") or str(_cache_folder())
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return _kernels("cpu")


def _kernels(twin: str) -> Kernels:
    homes = {
        "slices": "slice", "insert": "insert", "score": "score", "evaluate": "newton", "newton": "newton",
        "ctf": "ctf", "weigh": "weigh", "window": "weigh", "subtract": "model", "compare": "model",
    }  # fmt: skip
    return Kernels(**{name: _when_called(f"lrcore.kernels.{home}.{twin}", name) for name, home in homes.items()})


def _when_called(module: str, name: str) -> Callable[..., Any]:
    """A function that is imported at its first call: a command pays for the kernels that it uses."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _cache_folder() -> Path:
    """Where compiled kernels are kept: a folder for each state of their sources.

    Numba looks at the file of a function, not at those it inlines from; a changed helper would leave stale code.
    """
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in [root / "fourier.py", *sorted((root / "kernels").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrwidgets" / digest.hexdigest()
