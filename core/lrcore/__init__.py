"""lrcore: the numerical core of local refinement. No user interface, no global state.

The names below are the public API; each is imported when it is first used.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Backend": "backend",
    "HalfMaps": "records",
    "InputError": "errors",
    "Job": "refine",
    "Particles": "records",
    "Poses": "records",
    "Progress": "records",
    "RefineSpec": "spec",
    "Step": "records",
    "Store": "store",
    "Volume": "records",
    "advance": "refine",
    "final_map": "refine",
    "iterate": "refine",
    "pick": "backend",
    "read_particles": "io",
    "read_volume": "io",
    "start": "refine",
    "whole_map": "refine",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lrcore' has no attribute {name!r}")
    return getattr(import_module(f"lrcore.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
