"""lrwidgets: local refinement of cryo-EM particles, step by step, with a person looking on."""

__version__ = "0.1.0"
