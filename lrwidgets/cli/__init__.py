"""Provide the command line `lrwidgets COMMAND`; each command has the module of its name."""

from lrwidgets.cli._main import main

__all__ = ["main"]
