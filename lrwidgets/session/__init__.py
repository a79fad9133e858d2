"""Drive a refinement from a script, a notebook or a panel."""

from lrwidgets.session.session import Session

__all__ = ["Session"]
