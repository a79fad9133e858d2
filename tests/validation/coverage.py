"""How often the true pose lies in the region that is reported, in whole refinements of simulated sets at several SNRs.

Refinements from their own half maps, as noisy as these are; the prior as wide as the motion. Nothing is taken out, not
even what all poses of a half set have in common, of which its map knows nothing.

python -m tests.validation.coverage [SEED ...]
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from lrcore.analysis.pose_uncertainty import Uncertainty, uncertainty
from lrcore.arrays import Float64
from lrcore.compute.backend import Backend, get_backend
from lrcore.io import mrc_maps
from lrcore.records import Expectation, Poses
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.simulation.data_set import simulate_flexible_particle
from tests.validation.judge import pose_errors, refine, squared_mahalanobis_distance

SNRS = (0.02, 0.05, 0.1, 0.2)
BOX, PIXEL_A = 64, 2.8
SURE = 0.9
"""A particle is called unimodal whose best mode is more probable than this."""


@dataclass(frozen=True)
class Coverage:
    """Shares of the unimodal particles whose true pose lies in the regions of 68 % and 95 %.

    searched: by the covariance of the search. drawn: by draws under the other half set's map. unimodal: their share.
    error_deg, sd_deg: medians of the rotation's error, and of its SD per axis by the draws.
    """

    searched: tuple[float, float]
    drawn: tuple[float, float]
    unimodal: float
    error_deg: float
    sd_deg: float


def measure_coverage(folder: Path, snr: float, seed: int, n: int, backend: Backend) -> Coverage:
    """Refine a simulated set, ask for the uncertainty of its poses, and look where the truth lies."""
    made = simulate_flexible_particle(folder, n=n, box=BOX, pixel_size_A=PIXEL_A, seed=seed, snr=snr)
    place = ", ".join(f"{x:.2f}" for x in made.phantom.fulcrum_A + BOX // 2 * PIXEL_A) + " A"
    spec = RefineSpec(fulcrum=place, rotation_prior_sd_deg=5.0, shift_prior_sd_A=1.2)
    job = Job(made.particles, mrc_maps.read_volume(made.map("mask_b")), spec)
    first, last = refine(job, backend)
    (drawn,) = (event for event in uncertainty(job, first, last, backend) if isinstance(event, Uncertainty))
    return coverage_of(last.expectation, drawn, made.poses_b, made.phantom.fulcrum_A)


def coverage_of(found: Expectation, drawn: Uncertainty, truth: Poses, fulcrum_A: Float64) -> Coverage:
    """Where the truth lies in the ellipsoids about the reported poses, of five degrees of freedom."""
    sure = (found.mode_probability > SURE) & (found.flags == 0)
    delta = pose_errors(found.poses, truth, fulcrum_A)
    error = np.degrees(np.linalg.norm(delta[:, :3], axis=1))
    sd = np.degrees(np.sqrt(np.einsum("nii->ni", drawn.covariance[:, :3, :3])))
    return Coverage(
        _shares(delta[sure], found.covariance[sure]),
        _shares(delta[sure], drawn.covariance[sure]),
        float(sure.mean()),
        float(np.median(error)),
        float(np.median(sd)),
    )


def _shares(delta: Float64, covariance: Float64) -> tuple[float, float]:
    squared = squared_mahalanobis_distance(delta, covariance)
    return float(np.mean(squared < chi2.ppf(0.68, 5))), float(np.mean(squared < chi2.ppf(0.95, 5)))


def main() -> None:
    """A row of the table in docs/validation.md for each SNR and number of particles, the mean over the seeds."""
    seeds, backend = [int(text) for text in sys.argv[1:]] or [1, 2, 3], get_backend("cpu")
    for n in (1500, 4000):
        for snr in SNRS:
            each = []
            for seed in seeds:
                with tempfile.TemporaryDirectory() as folder:
                    each.append(measure_coverage(Path(folder), snr, seed, n, backend))
            told = [
                f"{' to '.join(f'{100 * value:.1f}' for value in (min(column), max(column)))}"
                for column in zip(*((*one.drawn, *one.searched) for one in each), strict=True)
            ]
            mean = [np.mean([getattr(one, name) for one in each]) for name in ("unimodal", "error_deg", "sd_deg")]
            print(
                f"| {snr:g} | {n} | **{told[0]}** | **{told[1]}** | {told[2]} | {told[3]} | {100 * mean[0]:.0f} % | "
                f"{mean[1]:.1f}° | {mean[2]:.1f}° |",
                flush=True,
            )


if __name__ == "__main__":
    main()
