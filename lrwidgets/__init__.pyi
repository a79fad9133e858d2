from . import jupyter, plots
from .example import make_example
from .export.motion_maps import motion_series
from .napari_panel.show import show_napari
from .session import Session
from .session.advice import findings
from .session.step_analysis import motion_plot_data
from .session.sweep import sweep

__version__: str

__all__ = [
    "Session",
    "findings",
    "jupyter",
    "make_example",
    "motion_plot_data",
    "motion_series",
    "plots",
    "show_napari",
    "sweep",
]
