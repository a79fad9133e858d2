"""Local refinement of cryo-EM particles, step by step: sessions, figures, Jupyter widgets and a napari panel.

The names in `__all__` are the public API. Each is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Session": "session.session",
    "findings": "session.advice",
    "make_example": "example",
    "show_napari": "napari_panel.show",
    "sweep": "session.sweep",
}
_SUBMODULES = ("jupyter", "plots")

__all__ = ["__version__", *_HOME, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"lrwidgets.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'lrwidgets' has no attribute {name!r}")
    return getattr(import_module(f"lrwidgets.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
