from . import io, maps, masks, simulation, testing
from .analysis.held_out_likelihood import held_out
from .analysis.motion_estimate import estimate_motion, principal_motions
from .analysis.pose_uncertainty import uncertainty
from .compute.backend import Backend, get_backend
from .compute.workers import DaskWorkers, ExecutorWorkers, LocalWorkers
from .errors import InputError
from .imaging.poses import pose_differences
from .io import read_particles, read_volume, write_particles, write_volume
from .maps.local_resolution import estimate_local_resolution
from .records import HalfMaps, Particles, Poses, Progress, Step, Volume
from .refinement.density import final_map, map_with_surroundings
from .refinement.geometry import fulcrum_A
from .refinement.iteration import iterate, run_iteration
from .refinement.job import Job
from .refinement.parameters import RefineSpec
from .refinement.reconstruction import reconstruct
from .refinement.start import start
from .results.zarr_store import Store

advance = run_iteration
pick = get_backend
whole_map = map_with_surroundings

__all__ = [
    "Backend",
    "DaskWorkers",
    "ExecutorWorkers",
    "HalfMaps",
    "InputError",
    "Job",
    "LocalWorkers",
    "Particles",
    "Poses",
    "Progress",
    "RefineSpec",
    "Step",
    "Store",
    "Volume",
    "estimate_local_resolution",
    "estimate_motion",
    "final_map",
    "fulcrum_A",
    "get_backend",
    "held_out",
    "io",
    "iterate",
    "map_with_surroundings",
    "maps",
    "masks",
    "pose_differences",
    "principal_motions",
    "read_particles",
    "read_volume",
    "reconstruct",
    "run_iteration",
    "simulation",
    "start",
    "testing",
    "uncertainty",
    "write_particles",
    "write_volume",
]
