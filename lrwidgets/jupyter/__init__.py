"""Jupyter widgets: each of them alone, and all in one `Studio`. Each is imported when it is first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
