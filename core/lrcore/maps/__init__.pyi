from .conical_fsc import ConicalFsc, compute_conical_fsc
from .fsc import fsc_curves, masked_fsc, randomise_phases, shell_correlation
from .local_resolution import LocalResolution, estimate_local_resolution
from .nonuniform import NonUniformMaps, filter_nonuniform
from .sharpening import Guinier, figure_of_merit, fit_guinier, sharpen
from .solvent_mask import outline_distance_A
from .window_fsc import windowed_fsc_curves

__all__ = [
    "ConicalFsc",
    "Guinier",
    "LocalResolution",
    "NonUniformMaps",
    "compute_conical_fsc",
    "estimate_local_resolution",
    "figure_of_merit",
    "filter_nonuniform",
    "fit_guinier",
    "fsc_curves",
    "masked_fsc",
    "outline_distance_A",
    "randomise_phases",
    "sharpen",
    "shell_correlation",
    "windowed_fsc_curves",
]
