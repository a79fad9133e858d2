"""Refinement as data: start, advance, iterate and finish; whoever calls holds the loop."""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore.backend import Backend
from lrcore.calibrate import Calibration, calibrate, model_images
from lrcore.errors import InputError
from lrcore.fourier import filter_map
from lrcore.fsc import family, wiener_gain
from lrcore.grids import Float32, half_plane, shell_index
from lrcore.images import Batch, batches, complete_column, reading_order, windowed
from lrcore.masks import checked
from lrcore.noise import measured, spectrum
from lrcore.poses import changes
from lrcore.reconstruct import add, empty, reconstruct, regularisation, solve
from lrcore.records import (
    FLAG_AT_ROTATION_EXTENT,
    FLAG_AT_SHIFT_EXTENT,
    Expectation,
    HalfMaps,
    Particles,
    Poses,
    Progress,
    Step,
    Summary,
    Volume,
)
from lrcore.reference import Geometry, Reference, align_resolution_A, geometry, prepare
from lrcore.search import search
from lrcore.spec import RefineSpec
from lrcore.symmetry import operators

Float64 = npt.NDArray[np.float64]

STALLED_RESOLUTION = 0.01
"""A relative gain in resolution below this is none."""
STALLED_CHANGE = 0.2
"""A median pose change below this many posterior SDs is none."""


@dataclass(frozen=True)
class Job:
    """What a refinement works on. half_maps: as given, or None to reconstruct them from the input poses."""

    particles: Particles
    mask: Volume
    spec: RefineSpec
    half_maps: HalfMaps | None = None


def check(job: Job) -> None:
    """Raise InputError when mask or half maps do not fit the particles; warn of what is unwise."""
    particles = job.particles
    checked(job.mask, particles.box, particles.pixel_size_A)
    for volume in (job.half_maps.first, job.half_maps.second) if job.half_maps else ():
        name = volume.path or "half map"
        if volume.box != particles.box:
            raise InputError(f"{name}: the map is {volume.box}³ but the particles' box is {particles.box}: re-box it")
        if abs(volume.pixel_size_A / particles.pixel_size_A - 1) > 0.01:
            raise InputError(
                f"{name}: voxel size {volume.pixel_size_A:g} Å but the particles' is {particles.pixel_size_A:g} Å: "
                "resample the map, or correct it with --apix"
            )
    for half in (1, 2):
        if not np.any(particles.half == half):
            raise InputError(f"{particles.path}: half set {half} holds no particles; a refinement needs both")


def start(job: Job, backend: Backend) -> Iterator[Progress | Step]:
    """Check the job and yield progress, then Step 0: half maps on the images' scale, noise, initial low-pass."""
    check(job)
    began = time.perf_counter()
    maps = job.half_maps
    if maps is None:
        volumes = []
        for half in (1, 2):
            for event in reconstruct(job.particles, half, job.spec.symmetry, backend):
                if isinstance(event, Volume):
                    volumes.append(event)
                else:
                    yield event
        maps = HalfMaps(*volumes)
    for found in calibrate(job.particles, maps, job.spec.seed, backend):
        if isinstance(found, Calibration):
            yield _first_step(job, found, backend, time.perf_counter() - began)
        else:
            yield found


def _first_step(job: Job, found: Calibration, backend: Backend, seconds: float) -> Step:
    maps = found.half_maps
    fsc = family(maps.first, maps.second, job.mask, job.spec.seed, backend.threads)
    lowpass = job.spec.initial_lowpass_A or fsc["corrected"].resolution_A(0.5) + 1.0
    n = len(job.particles)
    expectation = Expectation(
        job.particles.poses, np.zeros((n, 5, 5)), np.ones(n), np.ones(n), np.zeros(n), np.zeros(n, np.uint8)
    )
    align = align_resolution_A(fsc["corrected"], job.spec, lowpass)
    masked, corrected = fsc["masked"].resolution_A(), fsc["corrected"].resolution_A()
    summary = Summary(0, masked, corrected, align, 0, 0, 0, 0, 0, 0, 0, {"start": seconds}, {}, _memory_MB())
    return Step(0, expectation, maps, fsc, found.noise, lowpass, (summary,))


def advance(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """One iteration on top of `last`; `first` is the run's Step 0. Yields Progress per chunk, then the Step."""
    particles, spec = job.particles, job.spec
    shape = geometry(job.mask, spec)
    group = operators(spec.symmetry)
    rho = regularisation(last.fsc["corrected"].value)
    clock = _Clock()
    parts: list[tuple[npt.NDArray[np.int64], Expectation]] = []
    volumes: list[Volume] = []
    spectra: list[Float64] = []
    done = 0
    for half in (1, 2):
        with clock("reference"):
            reference = prepare(last, first, half, job.mask, spec, shape, backend.threads)
        noise = last.noise[half - 1]
        left: list[tuple[Float64, npt.NDArray[np.int32]]] = []
        sums = empty(particles.box)
        rows = reading_order(particles, half)
        for batch in clock.over("read", batches(particles, rows, backend.threads)):
            with clock("window"):
                rest = subtracted(batch, reference, particles, backend)
            found = expect(job, rest, reference, shape, last, backend, clock)
            with clock("noise"):
                left.append(measured(rest, len(rows), particles, found.poses, reference, shape, backend))
            with clock("insert"):
                weights = inverse_variance(batch, particles, noise)
                add(sums, batch, found.poses, particles.pixel_size_A, weights, group, backend)
            parts.append((batch.rows, found))
            done += len(batch.rows)
            yield Progress(last.iteration + 1, "search", done, len(particles))
        with clock("reconstruct"):
            volumes.append(solve(sums, particles.pixel_size_A, rho, backend.threads))
        power, groups = (np.concatenate(column) for column in zip(*left, strict=True))
        spectra.append(spectrum(power, groups, len(particles.optics)))
    with clock("fsc"):
        maps = HalfMaps(*volumes)
        fsc = family(maps.first, maps.second, job.mask, spec.seed, backend.threads)
    noise_now = np.stack(spectra)
    step = Step(last.iteration + 1, _joined(parts, len(particles)), maps, fsc, noise_now, 0.0, last.history)
    summary = _summary(job, last, step, shape, clock.seconds)
    step = replace(step, history=(*last.history, summary))
    yield replace(step, converged=converged(step.history))


def expect(
    job: Job, rest: Batch, reference: Reference, shape: Geometry, last: Step, backend: Backend, clock: "_Clock"
) -> Expectation:
    """The E-step of one batch that holds no more of what lies outside the mask: cut the window, search."""
    spec, particles = job.spec, job.particles
    given, before = particles.poses.select(rest.rows), last.expectation.poses.select(rest.rows)
    centres = Poses(
        before.rotation if spec.recenter_rotations else given.rotation,
        before.origin_A if spec.recenter_shifts else given.origin_A,
    )
    with clock("window"):
        noise = last.noise[int(particles.half[rest.rows[0]]) - 1]
        weights = inverse_variance(rest, particles, noise, reference.variance)
        centre_A = shape.centre * shape.pixel_size_A
        points = ((centres.rotation @ centre_A)[:, :2] - centres.origin_A) / shape.pixel_size_A
        W, w = windowed(rest, weights, points, reference.frame.samples, backend.threads)
    with clock("search"):
        return search(W, w, reference.frame, centres, before, given, rest.bad, backend)


def subtracted(batch: Batch, reference: Reference, particles: Particles, backend: Backend) -> Batch:
    """The batch without what lies outside the mask, as seen from the input poses."""
    if reference.outside is None:
        return batch
    samples = half_plane(particles.box, (float(reference.outside.limit),))
    given = particles.poses.select(batch.rows)
    model = model_images(reference.outside, given, samples, particles.pixel_size_A, backend)
    spectrum = batch.spectrum.copy()
    spectrum[:, samples.ky, samples.kx] -= batch.ctf[:, samples.ky, samples.kx] * model
    complete_column(spectrum, samples)
    return replace(batch, spectrum=spectrum)


def inverse_variance(
    batch: Batch, particles: Particles, noise: Float64, reference_variance: Float64 | None = None
) -> Float32:
    """1 / (σ² + C² var_ref) of every Fourier coefficient: (B, n, n // 2 + 1). noise: (groups, shells)."""
    shells = np.minimum(shell_index(particles.box, 2), noise.shape[1] - 1)
    sigma = noise.astype(np.float32)[:, shells][particles.group[batch.rows]]
    if reference_variance is not None:
        sigma += batch.ctf**2 * reference_variance.astype(np.float32)[shells]
    return 1 / sigma


def _joined(parts: list[tuple[npt.NDArray[np.int64], Expectation]], n: int) -> Expectation:
    """The batches' results in the particles' order."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    found = [e for _, e in parts]

    def join(name: str) -> npt.NDArray[np.generic]:
        joined: npt.NDArray[np.generic] = np.concatenate([getattr(e, name) for e in found])[order]
        return joined

    poses = Poses(
        np.concatenate([e.poses.rotation for e in found])[order], np.concatenate([e.poses.origin_A for e in found])[order]
    )
    names = ("covariance", "ess", "mode_probability", "gain", "flags")
    return Expectation(poses, **{name: join(name) for name in names})  # type: ignore[arg-type]


def _summary(job: Job, last: Step, step: Step, shape: Geometry, seconds: dict[str, float]) -> Summary:
    found, n = step.expectation, len(job.particles)
    angle, shift = changes(job.particles.poses, found.poses, shape.fulcrum_A)
    angle_last, shift_last = changes(last.expectation.poses, found.poses, shape.fulcrum_A)
    variance = np.einsum("nii->ni", found.covariance)
    in_sd = np.sqrt(
        np.radians(angle_last) ** 2 / np.maximum(variance[:, :3].sum(axis=1), 1e-12)
        + shift_last**2 / np.maximum(variance[:, 3:].sum(axis=1), 1e-12)
    )
    fsc = step.fsc
    rates = {k: n / s for k, s in seconds.items() if k in ("read", "window", "search", "insert") and s > 0}
    return Summary(
        step.iteration,
        fsc["masked"].resolution_A(),
        fsc["corrected"].resolution_A(),
        align_resolution_A(last.fsc["corrected"], job.spec, last.initial_lowpass_A),
        float(np.median(angle)),
        float(np.median(shift)),
        float(np.median(angle_last)),
        float(np.median(shift_last)),
        float(np.median(in_sd)),
        float(np.mean((found.flags & FLAG_AT_ROTATION_EXTENT) > 0)),
        float(np.mean((found.flags & FLAG_AT_SHIFT_EXTENT) > 0)),
        dict(seconds),
        rates,
        _memory_MB(),
    )


def converged(history: tuple[Summary, ...]) -> bool:
    """Resolution and poses have both stalled over the last iteration."""
    if len(history) < 3:
        return False
    before, now = history[-2:]
    stalled = before.resolution_corrected_A - now.resolution_corrected_A < STALLED_RESOLUTION * before.resolution_corrected_A
    return stalled and now.change_in_sd < STALLED_CHANGE


def finished(spec: RefineSpec, step: Step) -> bool:
    """No further iteration is due: converged and the extra passes done, or `max_iterations` reached."""
    if step.iteration >= spec.max_iterations:
        return True
    whole = [i for i in range(3, len(step.history) + 1) if converged(step.history[:i])]
    return bool(whole) and step.iteration >= step.history[whole[0] - 1].iteration + spec.extra_final_passes


def iterate(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Advance until converged (plus extra passes) or `max_iterations`; yields everything `advance` does."""
    while not finished(job.spec, last):
        for event in advance(job, first, last, backend):
            yield event
            if isinstance(event, Step):
                last = event


def final_map(job: Job, step: Step) -> Volume:
    """Mean of the half maps, filtered by √(2 FSC / (1 + FSC)) of the corrected FSC; not masked."""
    gain = wiener_gain(step.fsc["corrected"].value)
    first, second = step.half_maps.first, step.half_maps.second
    mean = filter_map(0.5 * (first.data + second.data), np.sqrt(2 * gain / (1 + gain)))
    return Volume(mean, first.pixel_size_A, job.mask.header_origin_A)


def _memory_MB() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class _Clock:
    """Seconds spent by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str) -> "_Stage":
        return _Stage(self, stage)

    def over(self, stage: str, batches_: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, with the time spent waiting for each counted."""
        while True:
            with self(stage):
                batch = next(batches_, None)
            if batch is None:
                return
            yield batch


class _Stage:
    def __init__(self, clock: _Clock, stage: str) -> None:
        self._clock, self._stage, self._began = clock, stage, 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._began
        self._clock.seconds[self._stage] = self._clock.seconds.get(self._stage, 0.0) + spent
