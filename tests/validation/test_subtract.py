"""Images without what lies outside the mask, in writing: the refinement on the fly, and nothing left outside."""

from dataclasses import dataclass

import numpy as np
import pytest

from lrcore.backend import Backend
from lrcore.io import read_particles, write_particles
from lrcore.io.stack_writer import write_batches
from lrcore.reconstruct import reconstruct
from lrcore.records import Expectation, Particles, Step, Volume
from lrcore.refine import Job, advance, start
from lrcore.spec import RefineSpec
from lrcore.subtract import kept_share, rewritten, subtracted_images
from lrcore.testing import rotation_error_deg, shift_error_A
from tests.validation.judge import Case, body_centre_A, last_step, tell

SPEC = RefineSpec(max_iterations=1)


@dataclass(frozen=True)
class Both:
    """Particles as they are with the start of their refinement, and as they are written."""

    first: Step
    written: Particles


@pytest.fixture(scope="module")
def both(two_body: Case, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder, job = tmp_path_factory.mktemp("subtracted"), two_body.job(SPEC)
    first = last_step(start(job, backend))
    table, stack = folder / "particles.star", folder / "particles.mrcs"
    out = rewritten(job.particles, table, stack)
    write_batches(stack, len(out), out.box, out.pixel_size_A, subtracted_images(job, first, first, backend))
    write_particles(table, out, out.poses)
    return Both(first, read_particles(table))


def found(job: Job, first: Step, backend: Backend) -> Expectation:
    return last_step(advance(job, first, first, backend)).expectation


def test_a_refinement_of_the_written_images_is_that_on_the_fly(two_body: Case, both: Both, backend: Backend) -> None:
    """One iteration from the same half maps; then from a start of its own, which measures scale and noise anew."""
    job = Job(both.written, two_body.mask, SPEC, two_body.half_maps)
    with pytest.warns(UserWarning, match="subtract_outside does nothing"):
        own = last_step(start(job, backend))
    fly = found(two_body.job(SPEC), both.first, backend)
    sd = np.degrees(np.sqrt(np.diagonal(fly.covariance, axis1=1, axis2=2)[:, :3])).mean()
    bounds = {"the same start": (1e-3, 1e-3, both.first), "a start of its own": (0.02, 0.02, own)}
    for name, (degrees, angstrom, first) in bounds.items():
        poses = found(job, first, backend).poses
        turn = rotation_error_deg(poses, fly.poses)
        shift = shift_error_A(poses, fly.poses, body_centre_A(two_body.mask))
        tell(f"on the fly and in writing, {name}: median {np.median(turn):.1e}° and {np.median(shift):.1e} Å,")
        tell(f"95 %: {np.quantile(turn, 0.95):.1e}° and {np.quantile(shift, 0.95):.1e} Å (the poses' SD: {sd:.1f}°)")
        assert np.median(turn) < degrees
        assert np.median(shift) < angstrom


def test_nothing_is_left_outside(two_body: Case, both: Both, backend: Backend) -> None:
    """Power on which reconstructions of the half sets agree, Σ h₁ h₂ (1 − m)²: noise adds nothing to it."""
    maps = {}
    for name, particles in (("whole", two_body.particles), ("subtracted", both.written)):
        maps[name] = [last_volume(particles, half, backend) for half in (1, 2)]
    keep = two_body.mask.data
    sphere = np.hypot.reduce(np.meshgrid(*[np.arange(96) - 48] * 3, indexing="ij"), axis=0) < 46
    power = {
        name: [float((a * b * weight**2 * sphere).sum(dtype=np.float64)) for weight in (1 - keep, keep)]
        for name, (a, b) in maps.items()
    }
    outside, inside = (power["subtracted"][i] / power["whole"][i] for i in (0, 1))
    tell(f"power left outside of the mask {outside:.2%}, inside {inside:.1%}")
    total = [float((a**2 * (1 - keep) ** 2 * sphere).sum(dtype=np.float64)) for a, _ in maps.values()]
    tell(f"with the noise of a half map: {total[1] / total[0]:.1%}; kept: {kept_share(both.first, two_body.mask):.1%}")
    assert outside < 0.05
    assert inside == pytest.approx(1, abs=0.1)


def last_volume(particles: Particles, half: int, backend: Backend) -> np.ndarray:
    return next(e.data for e in reconstruct(particles, half, "C1", backend) if isinstance(e, Volume))
