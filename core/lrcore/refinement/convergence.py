"""Summarise an iteration in numbers, and decide whether the refinement has converged."""

import numpy as np

from lrcore.compute.timing import peak_memory_MB
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import pose_differences
from lrcore.particles.bad_images import bad_image_mask
from lrcore.records import FLAG_AT_ROTATION_EXTENT, FLAG_AT_SHIFT_EXTENT, IterationSummary, Particles, Step
from lrcore.refinement.geometry import align_resolution_A
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_effects import settings_key
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
        align_resolution_A(last.corrected, spec, last.initial_lowpass_A),
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
        float(expectation.presence[~bad_image_mask(expectation.flags)].mean()) if n else 1.0,
    )


def has_converged(history: tuple[IterationSummary, ...]) -> bool:
    """Return True when neither resolution nor poses changed in the last iteration.

    history: of the iterations with the same settings and mask, and of the step before them.
    """
    if len(history) < 3:
        return False
    before, now = history[-2:]
    stalled = (
        before.resolution_corrected_A - now.resolution_corrected_A
        < CONVERGED_RESOLUTION_GAIN * before.resolution_corrected_A
    )
    return stalled and now.change_in_sd < CONVERGED_CHANGE_IN_SD


def settings_since(key: str, last: Step) -> int:
    """Return the number of the iteration after which the settings of this key have been in use, up to the last step.

    It is that of the last step itself where the step was made with other settings. Older versions stored no key.
    """
    return last.settings_since if last.settings_key in ("", key) else last.iteration


def stop_reason(job: Job, last: Step) -> str:
    """Return why no further iteration is due; empty if one is.

    Iterations count from the last change of spec or mask. They end when the refinement has converged and the extra
    passes are done, or, if it does not converge, after `max_iterations`.

    Parameters
    ----------
    job : input of the refinement
    last : step to go on from

    Returns
    -------
    str
        Such as "converged at iteration 6", or "max_iterations = 8 reached without convergence".
    """
    spec, since = job.spec, settings_since(settings_key(job.spec, job.mask), last)
    ends = (i for i in range(since + 3, len(last.history) + 1) if has_converged(last.history[since:i]))
    converged = next((last.history[i - 1].iteration for i in ends), None)
    if converged is not None:
        extra = spec.extra_final_passes
        done = f"converged at iteration {converged}" + (f", extra_final_passes = {extra} done" if extra else "")
        return done if last.iteration >= converged + extra else ""
    if last.iteration - since < spec.max_iterations:
        return ""
    skipped = ", so that extra_final_passes were not run" if spec.extra_final_passes else ""
    counted = f" since the last change of the settings, after iteration {since}" if since else ""
    return f"max_iterations = {spec.max_iterations} reached{counted} without convergence{skipped}"
