from . import jupyter, plots
from .example import make_example
from .napari_panel.show import show_napari
from .session import Session
from .session.advice import findings
from .session.sweep import sweep

__version__: str

__all__ = [
    "Session",
    "findings",
    "jupyter",
    "make_example",
    "plots",
    "show_napari",
    "sweep",
]
