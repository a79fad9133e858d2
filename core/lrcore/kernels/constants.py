"""Define the constants of the local search that the CPU and CUDA kernels share."""

MAX_MODES = 4
"""Modes kept for an image."""
TOLERANCE = 1e-3
"""Predicted gain in log-likelihood at which a mode has converged: an error of 0.045 SD."""
POLISH_TOLERANCE = 1e-4
"""Length of a move, in posterior SDs, at which the best mode is left."""
POLISH_STEPS = 30
"""Moves of the polish at most."""
