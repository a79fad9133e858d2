"""Define the constants of the local search that the CPU and CUDA kernels share."""

MAX_MODES = 4
"""Number of posterior modes kept for an image."""
TOLERANCE = 1e-3
"""Predicted gain in log-likelihood below which a mode has converged; it corresponds to an error of 0.045 SD."""
POLISH_TOLERANCE = 1e-4
"""Length of a polishing step, in posterior SDs, below which the best mode has converged."""
POLISH_STEPS = 30
"""Maximum number of polishing steps."""
