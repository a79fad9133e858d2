"""Numerical core of local refinement: no user interface and no global state.

`__init__.pyi` lists the public names. Each is imported when it is first used.
"""

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_OLD_NAMES = {"advance": "run_iteration", "pick": "get_backend", "whole_map": "map_with_surroundings"}
"""Names of earlier versions, which still work."""


def __getattr__(name: str) -> Any:
    return _load(_OLD_NAMES.get(name, name))
