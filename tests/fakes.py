"""A job and an engine without numerics: steps are made up from the seed, so that sessions and stores test in ms."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from scipy.spatial.transform import Rotation

from lrcore.analysis.held_out_likelihood import HeldOut, compare_scores
from lrcore.compute.backend import Backend, kernels_of
from lrcore.records import (
    OTHER_MODES,
    Expectation,
    Fsc,
    HalfMaps,
    ImageSource,
    IterationSummary,
    Optics,
    Particles,
    Poses,
    Progress,
    SearchSettings,
    Step,
    Volume,
)
from lrcore.refinement.convergence import settings_since
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_effects import settings_key
from lrcore.refinement.parameters import RefineSpec

BOX, PIXEL = 12, 2.5
CHUNKS = 3


def make_particles(n: int = 10, seed: int = 0, path: Path = Path("particles.star")) -> Particles:
    random = np.random.default_rng(seed)
    return Particles(
        uid=random.permutation(n).astype(np.uint64) + np.uint64(2**63),
        half=(np.arange(n) % 2 + 1).astype(np.int8),
        group=np.zeros(n, np.int32),
        optics=(Optics("one", 300.0, 2.7, 0.1, PIXEL, BOX),),
        poses=Poses(Rotation.random(n, random_state=seed).as_matrix(), random.normal(0, 3, (n, 2))),
        defocus_A=random.uniform(1e4, 2e4, (n, 2)),
        defocus_angle_rad=random.uniform(0, 3, n),
        phase_shift_rad=np.zeros(n),
        bfactor_A2=np.zeros(n),
        scale=np.ones(n),
        images=ImageSource((Path("s.mrcs"),), np.zeros(n, np.int32), np.arange(n), np.ones(n, np.float32)),
        path=path,
    )


def make_mask() -> Volume:
    data = np.zeros((BOX,) * 3, np.float32)
    data[5:9, 4:8, 3:9] = 1.0
    data[4, 4:8, 3:9] = 0.5
    return Volume(data, PIXEL, path=Path("mask.mrc"))


def make_job(n: int = 10, **spec: Any) -> Job:
    return Job(make_particles(n), make_mask(), RefineSpec(**spec))


def make_step(job: Job, last: Step | None = None) -> Step:
    """A step full of numbers that depend on the spec, on the last step's poses and on nothing else."""
    iteration = 0 if last is None else last.iteration + 1
    key = last.expectation.poses.rotation[0, 0, 0] if last else 0.5
    key_of_settings = settings_key(job.spec, job.mask)
    since = settings_since(key_of_settings, last) if last else 0
    random = np.random.default_rng([job.spec.seed, iteration, int(abs(key) * 1e6), int(job.spec.rotation_prior_sd_deg)])
    n, start = len(job.particles), job.particles.poses
    turn = Rotation.from_rotvec(random.normal(0, 0.02, (n, 3))).as_matrix()
    root = random.normal(0, 0.01, (n, 5, 5))
    other = random.normal(0, 0.1, (n, OTHER_MODES, 5)).astype(np.float32)
    other[::2, 1:] = np.nan
    expectation = Expectation(
        poses=start if last is None else Poses(start.rotation @ turn, start.origin_A + random.normal(0, 1, (n, 2))),
        covariance=root @ root.transpose(0, 2, 1),
        ess=random.uniform(1, 2, n),
        mode_probability=random.uniform(0, 1, n),
        gain=random.normal(0, 10, n),
        flags=random.integers(0, 16, n).astype(np.uint8),
        scale=random.uniform(0.5, 1.5, n),
        other_modes=other,
        other_probability=np.where(np.isnan(other[..., 0]), 0, 0.1).astype(np.float32),
        curvature=np.linalg.inv(root @ root.transpose(0, 2, 1)).astype(np.float32),
        evidence=np.linspace(40, 80, n) + iteration,
        misfit=np.linspace(-3, 3, n),
        presence=np.linspace(0.6, 1, n),
    )
    box, pixel = job.mask.box, job.mask.pixel_size_A
    maps = [Volume(random.normal(0, 1, (box,) * 3).astype(np.float32), pixel, (1.5, 0.0, -2.0)) for _ in (1, 2)]
    maps[0].data[0, 0, :3] = (-0.0, 1e-42, 0.0)
    frequency = np.arange(box // 2 + 1) / (box * pixel)
    kinds = ("unmasked", "spherical", "masked", "corrected", "randomised")[: 4 if last is None else 5]
    return Step(
        iteration=iteration,
        expectation=expectation,
        half_maps=HalfMaps(*maps),
        fsc={kind: Fsc(kind, frequency, random.uniform(-0.1, 1, len(frequency))) for kind in kinds},
        noise=random.uniform(0.1, 1, (2, 1, len(frequency))),
        initial_lowpass_A=11.1 if last is None else 0.0,
        history=(*(last.history if last else ()), make_summary(iteration, random)),
        converged=iteration - since >= 4,
        intensity=(0.9,),
        search=None if last is None else make_search_settings(job, random),
        settings_key="" if last is None else key_of_settings,
        settings_since=since,
    )


def make_search_settings(job: Job, random: np.random.Generator) -> SearchSettings:
    """What the spec says, but for the fulcrum."""
    spec, (x, y, z) = job.spec, (float(v) for v in random.uniform(1, 9, 3))
    free, recentred = spec.prior == "none", spec.recenter_rotations or spec.recenter_shifts
    sd = (np.inf, np.inf) if free else (spec.rotation_prior_sd_deg, spec.shift_prior_sd_A)
    root = random.normal(size=(6, 6))
    covariance = tuple((root @ root.T).ravel().tolist()) if spec.prior == "motion" else None
    return SearchSettings((x, y, z), *sd, spec.rotation_limit_deg, spec.shift_limit_A, recentred, covariance)


def make_summary(iteration: int, random: np.random.Generator) -> IterationSummary:
    others = ("iteration", "seconds", "particles_per_s", "present_share")
    plain = [f.name for f in fields(IterationSummary) if f.name not in others]
    numbers: dict[str, Any] = dict(zip(plain, random.uniform(0, 10, len(plain)), strict=True))
    numbers |= {"skipped": 0, "present_share": 0.8 + 0.01 * iteration}
    seconds = {"search": float(random.uniform(1, 2)), "insert": 0.5} if iteration else {"start": 3.0}
    return IterationSummary(
        iteration, seconds=seconds, particles_per_s={k: 10 / v for k, v in seconds.items() if k != "start"}, **numbers
    )


@dataclass
class FakeEngine:
    """Replace the numerics in tests. `gate`: a permit for each chunk, when given. `fails_at`: iteration that breaks."""

    gate: threading.Semaphore | None = None
    fails_at: int | None = None
    error: Exception = field(default_factory=lambda: RuntimeError("broken"))
    chunks: int = 0
    specs: list[RefineSpec] = field(default_factory=list)
    particles: list[int] = field(default_factory=list)
    masks: list[Volume] = field(default_factory=list)
    adopted_masks: list[Volume] = field(default_factory=list)

    def get_backend(self, name: str, threads: int | None = None) -> Any:
        return Backend(name, np, scipy.fft, kernels_of("reference"), threads or 1)

    def start(self, job: Job, backend: Any) -> Iterator[Progress | Step]:
        yield from self._chunked(job, 0, "start")
        yield make_step(job)

    def run_iteration(self, job: Job, first: Step, last: Step, backend: Any) -> Iterator[Progress | Step]:
        self.specs.append(job.spec)
        self.masks.append(job.mask)
        self.particles.append(len(job.particles))
        yield from self._chunked(job, last.iteration + 1, "search")
        yield make_step(job, last)

    def iterate(self, job: Job, first: Step, last: Step, backend: Any) -> Iterator[Progress | Step]:
        key = settings_key(job.spec, job.mask)
        while (done := last.iteration - settings_since(key, last)) < job.spec.max_iterations and not (
            done and last.converged
        ):
            for event in self.run_iteration(job, first, last, backend):
                last = event if isinstance(event, Step) else last
                yield event

    def make_whole_maps(self, job: Job, step: Step, backend: Any) -> Iterator[Progress | Step]:
        yield step

    def adopt_step(self, job: Job, made: Job, first: Step, step: Step, backend: Any) -> Step:
        self.adopted_masks.append(job.mask)
        return step

    def held_out(self, first: Step, a: Any, b: Any, backend: Any, n: int) -> HeldOut:
        """Scores that are higher by one with b where its poses are others."""
        rows, half = np.arange(len(b[0].particles)), b[0].particles.half
        more = float(not same_bits(a[1].expectation.poses, b[1].expectation.poses))
        base = np.random.default_rng(0).normal(50, 9, len(rows))
        return compare_scores(rows, half, np.stack([base, base + more * (1 + 0.01 * base)]))

    def _chunked(self, job: Job, iteration: int, stage: str) -> Iterator[Progress]:
        for done in range(1, CHUNKS + 1):
            if self.gate is not None:
                assert self.gate.acquire(timeout=120)
            if iteration == self.fails_at and done == 2:
                raise self.error
            self.chunks += 1
            yield Progress(iteration, stage, done * len(job.particles) // CHUNKS, len(job.particles))


def same_bits(a: Any, b: Any) -> bool:
    """Whether two records hold the same types, shapes and bits all the way down."""
    if is_dataclass(a):
        return type(a) is type(b) and all(same_bits(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_bits(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(a == b)


def with_flipped_bit(step: Step) -> Step:
    """The step with one bit of one half map turned."""
    data = step.half_maps.second.data.copy()
    data.view(np.uint32)[0, 0, 0] ^= 1
    return replace(step, half_maps=replace(step.half_maps, second=replace(step.half_maps.second, data=data)))
