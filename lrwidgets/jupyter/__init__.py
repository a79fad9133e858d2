"""Provide the notebook's widgets, each alone and all in one `Studio`. They are imported on first use."""

from importlib import import_module
from typing import Any

_HOMES = {
    "FulcrumWidget": "fulcrum",
    "InspectWidget": "inspect",
    "MaskWidget": "mask",
    "PriorWidget": "prior",
    "RunWidget": "run",
    "SliceView": "slices",
    "Studio": "studio",
    "SweepWidget": "sweep",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
