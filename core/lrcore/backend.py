"""Backends: where the hot loops run. Kernels are looked up here, so that importing lrcore compiles nothing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from lrcore.errors import InputError


@dataclass(frozen=True)
class Kernels:
    """The four contracts; each is documented in `lrcore.kernels.<name>`."""

    slices: Callable[..., Any]
    insert: Callable[..., Any]
    score: Callable[..., Any]
    evaluate: Callable[..., Any]
    newton: Callable[..., Any]


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
        return Backend("reference", np, _reference_kernels(), threads)
    if name == "cuda":
        raise InputError("backend cuda: this version has no GPU kernels yet; use --backend cpu")
    raise InputError(f"backend {name!r} is unknown; use auto or cpu")


def _cpu_kernels(threads: int) -> Kernels:
    import numba

    from lrcore.kernels.insert import cpu as insert
    from lrcore.kernels.newton import cpu as newton
    from lrcore.kernels.score import cpu as score
    from lrcore.kernels.slice import cpu as slices

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return Kernels(slices.slices, insert.insert, score.score, newton.evaluate, newton.newton)


def _reference_kernels() -> Kernels:
    from lrcore.kernels.insert import reference as insert
    from lrcore.kernels.newton import reference as newton
    from lrcore.kernels.score import reference as score
    from lrcore.kernels.slice import reference as slices

    return Kernels(slices.slices, insert.insert, score.score, newton.evaluate, newton.newton)
