"""Refine poses and maps step by step: E-step, M-step, noise, priors, convergence."""
