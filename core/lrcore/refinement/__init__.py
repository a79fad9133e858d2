"""Refine poses and half maps iteration by iteration: E-step, M-step, noise, priors and convergence.

Modules in the order in which an iteration uses them:

- `parameters`, `parameter_checks`, `job`: input of a refinement and its checks.
- `start`, `calibration`: step 0, half maps on the scale of the images.
- `geometry`, `reference`: what is fixed by mask and parameters, and the reference of each half set.
- `half_set_pass`: one pass over the images of a half set, made of
  `expectation`, `search`, `posterior` (E-step), `noise` (noise model) and `reconstruction` (M-step).
- `cross_half_likelihood`, `motion_prior`: prior and fulcrum estimated from the motion of the last iteration.
- `iteration`, `convergence`: one iteration, and the loop that ends when nothing changes any more.
- `density`, `subtraction`, `memory`: maps of a step, subtracted images, memory estimate.
"""
