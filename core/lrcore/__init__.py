"""lrcore: the numerical core of local refinement. No user interface, no global state."""
