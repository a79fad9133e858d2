"""Summarise an iteration in numbers, and decide whether the refinement has converged."""

import numpy as np

from lrcore.compute.timing import peak_memory_MB
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import pose_differences
from lrcore.particles.bad_images import bad_image_mask
from lrcore.records import FLAG_AT_ROTATION_EXTENT, FLAG_AT_SHIFT_EXTENT, IterationSummary, Particles, Step
from lrcore.refinement.geometry import align_resolution_A
from lrcore.refinement.parameters import RefineSpec

CONVERGED_RESOLUTION_GAIN = 0.01
"""A relative gain in resolution below this counts as no gain."""
CONVERGED_CHANGE_IN_SD = 0.2
"""A median change of the poses below this many posterior SDs counts as no change."""


def summarise_iteration(
    particles: Particles,
    spec: RefineSpec,
    last: Step,
    step: Step,
    fulcrum_A: tuple[float, float, float],
    seconds: dict[str, float],
    lattice_share: float,
) -> IterationSummary:
    """Summarise a step for the history of the run.

    last: the step before. particles: at their input poses. fulcrum_A: (x, y, z). seconds: by stage. lattice_share:
    share of the particles that were searched on the lattice. The change of a pose in posterior SDs is

        √(|ω|² / tr Σ_ωω + |t|² / tr Σ_tt)
    """
    expectation, n = step.expectation, len(particles)
    magnification = magnification_in_3d(particles, np.arange(n))
    angle, shift = pose_differences(particles.poses, expectation.poses, fulcrum_A, magnification)
    angle_last, shift_last = pose_differences(last.expectation.poses, expectation.poses, fulcrum_A, magnification)
    variance = np.einsum("nii->ni", expectation.covariance)
    in_sd = np.sqrt(
        np.radians(angle_last) ** 2 / np.maximum(variance[:, :3].sum(axis=1), 1e-12)
        + shift_last**2 / np.maximum(variance[:, 3:].sum(axis=1), 1e-12)
    )
    fsc = step.fsc
    rates = {k: n / s for k, s in seconds.items() if k in ("read", "window", "search", "insert") and s > 0}
    return IterationSummary(
        step.iteration,
        fsc["masked"].resolution_A(),
        fsc["corrected"].resolution_A(),
        align_resolution_A(last.fsc["corrected"], spec, last.initial_lowpass_A),
        float(np.median(angle)),
        float(np.median(shift)),
        float(np.median(angle_last)),
        float(np.median(shift_last)),
        float(np.median(in_sd)),
        float(np.mean((expectation.flags & FLAG_AT_ROTATION_EXTENT) > 0)),
        float(np.mean((expectation.flags & FLAG_AT_SHIFT_EXTENT) > 0)),
        dict(seconds),
        rates,
        peak_memory_MB(),
        lattice_share,
        int(bad_image_mask(expectation.flags).sum()),
    )


def has_converged(history: tuple[IterationSummary, ...]) -> bool:
    """Return True when neither resolution nor poses changed in the last iteration."""
    if len(history) < 3:
        return False
    before, now = history[-2:]
    stalled = (
        before.resolution_corrected_A - now.resolution_corrected_A
        < CONVERGED_RESOLUTION_GAIN * before.resolution_corrected_A
    )
    return stalled and now.change_in_sd < CONVERGED_CHANGE_IN_SD


def is_finished(spec: RefineSpec, step: Step) -> bool:
    """Return True when no further iteration is due.

    Either `max_iterations` is reached, or the run has converged and the extra passes are done.
    """
    if step.iteration >= spec.max_iterations:
        return True
    converged = [i for i in range(3, len(step.history) + 1) if has_converged(step.history[:i])]
    return bool(converged) and step.iteration >= step.history[converged[0] - 1].iteration + spec.extra_final_passes
