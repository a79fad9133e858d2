"""What the validation tests share: a data set with its truth, whole refinements of it, and errors against the truth."""

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import FourierVolume, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.imaging.rotations import relative_rotation
from lrcore.io import read_particles, read_volume
from lrcore.kernels.model_images.reference import apply_shifts
from lrcore.masks import centre_of_mass
from lrcore.particles.image_stream import batches, reading_order
from lrcore.records import Expectation, HalfMaps, Particles, Poses, Progress, Step, Volume
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import iterate, run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reference import make_reference, outside_density
from lrcore.refinement.search import poses_to_theta, theta_to_poses
from lrcore.refinement.start import start
from lrcore.results.zarr_store import Store

WHOLE_SPEC = RefineSpec()


@dataclass(frozen=True)
class SimulatedCase:
    """A simulated flexible particle: the input of a refinement, and the truth about its body B."""

    folder: Path
    particles: Particles
    mask: Volume
    half_maps: HalfMaps | None
    truth: Poses
    gt_b: Volume
    gt_full: Volume

    def job(self, spec: RefineSpec = WHOLE_SPEC) -> Job:
        return Job(self.particles, self.mask, spec, self.half_maps)


def load_case(folder: Path) -> SimulatedCase:
    """A data set with the files of `simulate_flexible_particle`; consensus half maps where there are any."""
    first, second = folder / "consensus_half1.mrc", folder / "consensus_half2.mrc"
    return SimulatedCase(
        folder=folder,
        particles=read_particles(folder / "particles.star"),
        mask=read_volume(folder / "mask_b.mrc"),
        half_maps=HalfMaps(read_volume(first), read_volume(second)) if first.exists() else None,
        truth=read_particles(folder / "truth_b.star").poses,
        gt_b=read_volume(folder / "gt_b.mrc"),
        gt_full=read_volume(folder / "gt_full.mrc"),
    )


def last_step(events: Iterator[Progress | Step]) -> Step:
    """The last step that comes."""
    return [event for event in events if isinstance(event, Step)][-1]


def refine(job: Job, backend: Backend) -> tuple[Step, Step]:
    """The start and the end of a whole refinement."""
    first = last_step(start(job, backend))
    return first, last_step(iterate(job, first, first, backend))


def refine_once(path: Path, job: Job, backend: Backend) -> tuple[Step, Step]:
    """The same, by whichever process of a test run comes first: the others read the steps that it kept, bit for bit."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            first, last = refine(job, backend)
            store = Store.create(path, job)
            store.append(last, store.append(first, None, job).id, job)
            store.close()
        store = Store.open(path, write=False)
        first, last = (store.load(node.id) for node in store.tree())
        return first, last


def mean_map(step: Step) -> npt.NDArray[np.float32]:
    return 0.5 * (step.half_maps.first.data + step.half_maps.second.data)


def body_centre_A(mask: Volume) -> Float64:
    return centre_of_mass(mask.data) * mask.pixel_size_A


def model_images(
    volume: FourierVolume, poses: Poses, samples: FourierSamples, pixel_size_A: float, backend: Backend
) -> npt.NDArray[np.complexfloating]:
    """FTs of the images of a map at poses, with their origins: (B, S), no CTF."""
    return apply_shifts(
        backend.kernels.project_slices(volume, poses.rotation, samples), poses.origin_A / pixel_size_A, samples
    )


def true_scale(case: SimulatedCase, bodies: list[tuple[npt.NDArray[np.float32], Poses]], backend: Backend) -> float:
    """The number that brings the true bodies, each at its own true poses, onto the images: Σ Re X* C S / Σ C² |S|²."""
    particles = case.particles
    samples = half_plane(particles.box, (0.45 * particles.box,))
    volumes = [(map_to_fourier_volume(body, (particles.box - 1) // 2), poses) for body, poses in bodies]
    dot = power = 0.0
    for batch in batches(particles, reading_order(particles), backend):
        model = sum(
            model_images(volume, poses.select(batch.rows), samples, particles.pixel_size_A, backend)
            for volume, poses in volumes
        )
        model = model * batch.ctf[:, samples.ky, samples.kx]
        dot += float((batch.spectrum[:, samples.ky, samples.kx].conj() * model).real.sum(dtype=np.float64))
        power += float((np.abs(model) ** 2).sum(dtype=np.float64))
    return dot / power


def with_true_map(
    case: SimulatedCase, job: Job, first: Step, scale: float, backend: Backend
) -> tuple[Step, Expectation]:
    """What the search finds with the true body as both half maps and an FSC of 1, and the step that it went on from.

    Two iterations: the first one measures the noise that the second one uses.
    """
    true = replace(case.gt_b, data=(scale * case.gt_b.data).astype(np.float32))
    whole = {kind: replace(curve, value=np.ones_like(curve.value)) for kind, curve in first.fsc.items()}
    perfect = replace(first, half_maps=HalfMaps(true, true), fsc=whole, initial_lowpass_A=0.0)
    perfect = replace(perfect, noise=last_step(run_iteration(job, first, perfect, backend)).noise)
    return perfect, last_step(run_iteration(job, first, perfect, backend)).expectation


def is_right_mode(
    case: SimulatedCase, job: Job, first: Step, last: Step, found: Expectation, backend: Backend
) -> npt.NDArray[np.bool_]:
    """Whether the mode found from `last` is the one that a descent from the truth ends in, within one SD: (n,)."""
    shape, particles = search_geometry(job.mask, job.spec), job.particles
    right = np.zeros(len(particles), np.bool_)
    around = outside_density(first.half_maps, job.mask, job.spec, backend.threads)
    for half in (1, 2):
        reference = make_reference(last, around, half, job.mask, job.spec, shape, backend.threads)
        frame = reference.frame
        whole = replace(frame.samples, ends=frame.samples.ends[-1:])
        for batch in batches(particles, reading_order(particles, half), backend):
            rest = subtract_outside_density(batch, reference.outside, particles, backend)
            given, rows = particles.poses.select(rest.rows), rest.rows
            W, w = backend.kernels.whiten_windows(
                rest.spectrum, rest.ctf, last.noise[half - 1], particles.group[rows], reference.variance,
                shape.centre_in(given), whole,
            )  # fmt: skip
            truth = poses_to_theta(given, case.truth.select(rows), frame)[:, None]
            valid = np.ones((len(rows), 1), np.bool_)
            modes = backend.kernels.find_posterior_modes(
                frame.volume, W, w, whole, given.rotation, truth, valid, frame.lever, frame.limits
            )
            reached = theta_to_poses(given, modes.theta[:, 0], frame)
            apart = pose_errors(found.poses.select(rows), reached, np.array(shape.fulcrum_A))
            right[rows] = squared_mahalanobis_distance(apart, found.covariance[rows]) < 1.0
    return right


def pose_errors(found: Poses, truth: Poses, fulcrum_A: Float64) -> Float64:
    """(ω_x, ω_y, ω_z, t_x, t_y) from the found pose to the true one, about the fulcrum, rad and Å: (n, 5)."""
    omega = relative_rotation(found.rotation, truth.rotation)
    moved = ((truth.rotation - found.rotation) @ fulcrum_A)[:, :2]
    return np.concatenate([omega, found.origin_A + moved - truth.origin_A], axis=1)


def squared_mahalanobis_distance(delta: Float64, covariance: Float64) -> Float64:
    """Mahalanobis distance squared of errors (n, 5) in the reported covariance (n, 5, 5)."""
    return np.einsum("ni,ni->n", delta, np.linalg.solve(covariance, delta[..., None])[..., 0])


def from_corner(point_A: Float64, box: int, pixel_size_A: float) -> str:
    """Return a point in Å from the box centre as the text of a fulcrum, from the corner of the box."""
    return ", ".join(f"{x:.2f}" for x in point_A + box // 2 * pixel_size_A) + " A"


def print_measurement(text: str) -> None:
    """Print a measured number: `pytest -rP` shows it."""
    print(text)
