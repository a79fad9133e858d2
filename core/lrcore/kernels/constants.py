"""Define the constants of the local search that the CPU and CUDA kernels share."""

MAX_MODES = 4
"""Number of posterior modes kept for an image."""
TOLERANCE = 1e-3
"""Predicted gain in log-likelihood below which a mode has converged; it corresponds to an error of 0.045 SD."""
POLISH_TOLERANCE = 0.01
"""Error of the best mode, in posterior SDs, at which its polish ends; it is expected from how the steps shorten."""
FIRST_CONTRACTION = 0.5
"""Error that the first polishing step is expected to leave, relative to its length."""
POLISH_STEPS = 12
"""Maximum number of polishing steps."""
CURVATURE_RATIO = 1.6
"""Curvature of −log likelihood at a mode over that of Gauss–Newton: at a maximum the noise adds to that of the model.

Measured on simulated images. A step of Levenberg–Marquardt and the first one of a polish use it.
"""
