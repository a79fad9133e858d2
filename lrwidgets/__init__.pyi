from lrwidgets import jupyter as jupyter
from lrwidgets import plots as plots
from lrwidgets.example import make_example as make_example
from lrwidgets.napari_panel.show import show_napari as show_napari
from lrwidgets.session.advice import findings as findings
from lrwidgets.session.session import Session as Session
from lrwidgets.session.sweep import sweep as sweep

__version__: str
__all__: list[str]
