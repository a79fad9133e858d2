"""Refine cryo-EM particles locally, step by step, with sessions, figures, Jupyter widgets and a napari panel.

`__init__.pyi` lists the public names. Each is imported when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
