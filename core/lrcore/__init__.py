"""Numerical core of local refinement: no user interface and no global state.

The names in `__all__` are the public API. Each is imported when it is first used.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Backend": "compute.backend",
    "DaskWorkers": "compute.workers",
    "ExecutorWorkers": "compute.workers",
    "HalfMaps": "records",
    "InputError": "errors",
    "Job": "refinement.job",
    "LocalWorkers": "compute.workers",
    "Particles": "records",
    "Poses": "records",
    "Progress": "records",
    "RefineSpec": "refinement.parameters",
    "Step": "records",
    "Store": "results.zarr_store",
    "Volume": "records",
    "estimate_motion": "analysis.motion_estimate",
    "final_map": "refinement.density",
    "fulcrum_A": "refinement.geometry",
    "get_backend": "compute.backend",
    "held_out": "analysis.held_out_likelihood",
    "iterate": "refinement.iteration",
    "local_resolution": "maps.local_resolution",
    "map_with_surroundings": "refinement.density",
    "pose_differences": "imaging.poses",
    "principal_motions": "analysis.motion_estimate",
    "read_particles": "io",
    "read_volume": "io",
    "reconstruct": "refinement.reconstruction",
    "run_iteration": "refinement.iteration",
    "start": "refinement.start",
    "uncertainty": "analysis.pose_uncertainty",
    "write_particles": "io",
    "write_volume": "io",
}
_SUBMODULES = ("io", "maps", "masks", "simulation", "testing")
_OLD_NAMES = {"advance": "run_iteration", "pick": "get_backend", "whole_map": "map_with_surroundings"}
"""Names of earlier versions that still work."""

__all__ = [*_HOME, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"lrcore.{name}")
    name = _OLD_NAMES.get(name, name)
    if name not in _HOME:
        raise AttributeError(f"module 'lrcore' has no attribute {name!r}")
    return getattr(import_module(f"lrcore.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
