"""Refinement as data: start, advance, iterate and finish; whoever calls holds the loop."""

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore.aberrations import lens, stretch
from lrcore.apart import Told, joined, told
from lrcore.backend import Backend, Crew
from lrcore.calibrate import Calibration, calibrate, sample_rows
from lrcore.clock import Clock, peak_memory_MB
from lrcore.converge import converged, finished, summary
from lrcore.defects import skipped, tell
from lrcore.duplicates import require_halves_apart
from lrcore.errors import InputError
from lrcore.expect import subtracted
from lrcore.fourier import filter_map
from lrcore.fsc import combined_gain, family
from lrcore.halves import require_both
from lrcore.images import Batch, Rows, ranges, reading_order, usual_of, worked
from lrcore.learn import learned, lessons
from lrcore.masks import checked, dynamic_mask, soft_edge
from lrcore.motion import Sights
from lrcore.noise import measured, modelled, sampled, spectrum
from lrcore.nonuniform import cutoff_map
from lrcore.passes import Common, Found, Left, Part, concatenated, go_over, merged, sent
from lrcore.poses import seen_through
from lrcore.reconstruct import Accumulator, ended_into, fetched, reconstruct, regularisation, solve
from lrcore.records import Expectation, HalfMaps, Particles, Progress, Step, Summary, Volume
from lrcore.reference import (
    Geometry,
    Learned,
    Reference,
    Surroundings,
    align_resolution_A,
    geometry,
    held,
    placed,
    prepare,
    question,
    surroundings,
)
from lrcore.search import secure
from lrcore.soundness import doubts, require_sound
from lrcore.spec import RefineSpec

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """What a refinement works on. half_maps: as given, or None to reconstruct them from the input poses."""

    particles: Particles
    mask: Volume
    spec: RefineSpec
    half_maps: HalfMaps | None = None


def check(job: Job) -> None:
    """Raise InputError when mask, half maps, half sets or spec do not fit the particles; warn of what is unwise."""
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
    require_both(particles)
    require_halves_apart(particles)
    require_sound(job.mask, job.spec)
    for doubt in doubts(job.mask, job.spec, half=particles.half):
        warnings.warn(doubt, stacklevel=2)
    if particles.subtracted:
        _note_subtracted(job)


def _note_subtracted(job: Job) -> None:
    name, spec = job.particles.path, job.spec
    if spec.subtract_outside:
        warnings.warn(
            f"{name}: these images are without what lies outside the mask already: subtract_outside does nothing",
            stacklevel=3,
        )
    if spec.mask_mode == "dynamic":
        warnings.warn(
            f"{name}: what lies outside the mask is subtracted from these images, so a dynamic mask cannot grow: "
            "set mask_mode=static, or bring the whole images back (lrwidgets subtract --back)",
            stacklevel=3,
        )


def start(job: Job, backend: Backend) -> Iterator[Progress | Step]:
    """Check the job and yield progress, then Step 0: half maps on the images' scale, noise, initial low-pass."""
    check(job)
    began = time.perf_counter()
    maps = job.half_maps
    if maps is None:
        volumes = []
        for half in (1, 2):
            for event in reconstruct(job.particles, half, job.spec.symmetry, backend, job.spec.ewald):
                if isinstance(event, Volume):
                    volumes.append(event)
                else:
                    yield event
        maps = HalfMaps(*volumes)
    for found in calibrate(job.particles, maps, job.mask, job.spec.seed, backend):
        if isinstance(found, Progress):
            yield found
        else:
            first = _first_step(job, found, backend)
    noise = yield from _first_noise(job, first, backend)
    (line,) = first.history
    line = replace(line, seconds={"start": time.perf_counter() - began}, memory_MB=peak_memory_MB())
    yield replace(first, noise=noise, history=(line,))


def _first_noise(job: Job, first: Step, backend: Backend) -> Generator[Progress, None, Float64]:
    """What the first search will see, measured as after every later one, but at the input poses."""
    particles, shape = weighed(job, first), geometry(job.mask, job.spec)
    around = outside(job, first, job.mask, backend.threads)
    rows = [sample_rows(particles, half, job.spec.seed) for half in (1, 2)]
    spectra, done = [], 0
    for half, chosen in zip((1, 2), rows, strict=True):
        made = prepare(first, around, half, job.mask, job.spec, shape, backend.threads, stretch=stretch(particles))
        reference = placed(made, backend)
        left: list[Left] = []

        def work(batch: Batch, reference: Reference = reference) -> tuple[int, Left]:
            rest, given = subtracted(batch, reference.outside, particles, backend), particles.poses.select(batch.rows)
            all_of_them = np.ones(len(given), np.bool_)
            return len(given), measured(rest, all_of_them, particles, given, reference, shape, backend)

        for count, one in worked(particles, chosen, backend, work):
            left.append(one)
            done += count
            yield Progress(0, "noise", done, len(rows[0]) + len(rows[1]))
        spectra.append(_spectrum(left, particles))
    return modelled(np.stack(spectra), job.spec.noise_model)


def _spectrum(left: Sequence[Left], particles: Particles) -> Float64:
    """The noise spectrum of the residual powers and groups of some batches."""
    power, groups = (np.concatenate(column) for column in zip(*left, strict=True))
    if len(power) == 0:
        raise InputError(
            f"{particles.path}: none of the images of a half set holds an image (they are constant, NaN or of an "
            "absurd amplitude): look at the stacks (lrwidgets info STACK)"
        )
    return spectrum(power, groups, len(particles.optics))


def _first_step(job: Job, found: Calibration, backend: Backend) -> Step:
    """Step 0 of half maps on the images' scale, but for its noise and time."""
    maps = found.half_maps
    fsc = family(maps.first, maps.second, job.mask, job.spec.seed, backend.threads, part=True)
    lowpass = job.spec.initial_lowpass_A or fsc["corrected"].resolution_A(0.5) + 1.0
    expectation = Expectation.none(job.particles.poses)
    align = align_resolution_A(fsc["corrected"], job.spec, lowpass)
    masked, corrected = fsc["masked"].resolution_A(), fsc["corrected"].resolution_A()
    line = Summary(0, masked, corrected, align, 0, 0, 0, 0, 0, 0, 0, {}, {}, 0.0)
    noise = np.ones((2, len(job.particles.optics), job.mask.box // 2 + 1))
    return Step(0, expectation, maps, fsc, noise, lowpass, (line,), intensity=found.intensity)


def advance(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """One iteration on top of `last`; `first` is the run's Step 0. Yields Progress per chunk, then the Step."""
    clock = Clock()
    with clock("reference"):
        around = outside(job, first, job.mask, backend.threads)
    yield from _advance(job, around, first, last, backend, clock)


@dataclass(frozen=True)
class Scene:
    """What both half sets of an iteration share.

    cutoff_A: of each voxel. question: what the search asks. known: (n,) poses that are beyond doubt about it.
    """

    job: Job
    last: Step
    shape: Geometry
    around: Surroundings | None
    cutoff_A: Float32 | None
    question: str
    known: npt.NDArray[np.bool_]
    backend: Backend
    clock: Clock


def scene_apart(job: Job, first: Step, last: Step, backend: Backend) -> Scene:
    """What both half sets share when each is looked at with the map of the other, and as the search of `last` held it.

    first: the run's Step 0.
    """
    around = outside(job, first, job.mask, backend.threads)
    return _apart(_scene(job, around, first, last, backend, Clock()))


def _apart(scene: Scene) -> Scene:
    last = scene.last
    exchanged = replace(last, half_maps=HalfMaps(last.half_maps.second, last.half_maps.first))
    return replace(_holding(scene, Learned.of(last.held) if last.held else None), last=exchanged)


def _scene(job: Job, around: Surroundings | None, first: Step, last: Step, backend: Backend, clock: Clock) -> Scene:
    """What follows `last`, holding what the spec says. around: of the job's own mask."""
    spec, maps, workers = job.spec, last.half_maps, backend.threads
    mask = mask_of(job, last, workers)
    if mask is not job.mask:
        around = outside(job, first, mask, workers)
    cutoff_A = None
    if spec.non_uniform:
        both, factor = (maps.first.data, maps.second.data), spec.non_uniform_window_factor
        cutoff_A = cutoff_map(*both, mask.data, mask.pixel_size_A, factor, workers=workers)
    job = replace(job, mask=mask, particles=weighed(job, last))
    nothing = np.zeros(len(job.particles), np.bool_)
    return _holding(Scene(job, last, geometry(mask, spec), around, cutoff_A, "", nothing, backend, clock), None)


def _holding(scene: Scene, found: Learned | None) -> Scene:
    """The scene with a search that holds what was found of the motion."""
    spec, last = scene.job.spec, scene.last
    shape = geometry(scene.job.mask, spec, found)
    asked = question(spec, shape)
    return replace(scene, shape=shape, question=asked, known=secure(last.expectation) & (last.question == asked))


def outside(job: Job, first: Step, mask: Volume, workers: int) -> Surroundings | None:
    """What is subtracted from every image; None, too, if it has been already. first: the run's Step 0."""
    return None if job.particles.subtracted else surroundings(first.half_maps, mask, job.spec, workers)


def weighed(job: Job, last: Step) -> Particles:
    """The particles with the scale of their images' signal: of the file, of the optics group, of the particle."""
    particles = job.particles
    scale = particles.scale
    if last.intensity:
        scale = scale * np.array(last.intensity)[particles.group]
    if job.spec.per_particle_scale:
        scale = scale * last.expectation.scale
    return replace(particles, scale=scale)


def _advance(
    job: Job, around: Surroundings | None, first: Step, last: Step, backend: Backend, clock: Clock
) -> Iterator[Progress | Step]:
    """See `advance`; the clock may have counted what came before."""
    with clock("reference"):
        scene = _scene(job, around, first, last, backend, clock)
    scene = _holding(scene, (yield from _learned(scene)))
    found, volumes, spectra = yield from _passes(scene)
    with clock("fsc"):
        maps = HalfMaps(*volumes)
        fsc = family(maps.first, maps.second, scene.job.mask, job.spec.seed, backend.threads, part=True)
    noise_now = modelled(np.stack(spectra), job.spec.noise_model)
    found_now = _joined(found, job.particles)
    step = replace(
        last, iteration=last.iteration + 1, expectation=found_now, half_maps=maps, fsc=fsc, noise=noise_now,
        initial_lowpass_A=0.0, question=scene.question, held=held(scene.shape, job.spec),
    )  # fmt: skip
    share, fulcrum = 1 - float(scene.known.mean()), scene.shape.fulcrum_A
    line = summary(job.particles, job.spec, last, step, fulcrum, clock.seconds, share)
    step = replace(step, history=(*last.history, line))
    tell(job.particles, skipped(found_now.flags))
    yield replace(step, converged=converged(step.history))


def _learned(scene: Scene) -> Generator[Progress, None, Learned | None]:
    """The motion that the last step found, told by each half set under the map of the other; None where nothing is."""
    particles, last, began = scene.job.particles, scene.last, time.perf_counter()
    rows = lessons(particles, last, scene.job.spec)
    if not rows or last.held is None:
        return None
    apart = replace(_apart(scene), clock=Clock())
    limits, apix = apart.shape.limits, apart.shape.pixel_size_A
    extent, halves = (limits.rotation, limits.shift * apix), []
    for some, said in zip(rows, (yield from _asked(apart, rows)), strict=True):
        plane = seen_through(particles.poses.select(some).rotation, lens(particles, some))[:, :2]
        halves.append(Sights(np.array(apart.shape.fulcrum_A), said.precision, said.information, plane, extent))
    motion = learned(halves, last.held, scene.job.mask, scene.job.spec)
    scene.clock.seconds["learn"] = time.perf_counter() - began
    return motion


def _asked(scene: Scene, rows: Sequence[Rows]) -> Generator[Progress, None, list[Told]]:
    """What these particles of either half set say under the maps of the scene; Progress per chunk."""
    found, done, total = [], 0, sum(len(some) for some in rows)
    crew, parts = scene.backend.crew, [_part(scene, some) for some in rows]
    iteration = scene.last.iteration + 1
    if crew is None:
        for half, part in zip((1, 2), parts, strict=True):
            ended: list[Told] = []
            for count in ended_into(ended, told(common(scene, half, part.rows), part, scene.backend)):
                done += count
                yield Progress(iteration, "learn", done, total)
            found += ended
        return found
    with crew.errand(told, joined) as errand:
        for half, part in zip((1, 2), parts, strict=True):
            shares = ranges(part.rows, part.particles.box, scene.backend)
            errand.put(common(scene, half, part.rows), [part.narrowed(some) for some in shares], [*map(len, shares)])
        for number in (0, 1):
            for _ in errand.watch(number):
                yield Progress(iteration, "learn", errand.done, total)
            found.append(errand.result(number))
    return found


def _passes(scene: Scene) -> Generator[Progress, None, tuple[list[Expectation], list[Volume], list[Float64]]]:
    """What was found of either half set, in reading order, its new map and its noise spectrum; Progress per chunk."""
    found, volumes, spectra = [], [], []
    crew = scene.backend.crew
    for event in _alone(scene) if crew is None else _shared_out(scene, crew):
        if isinstance(event, Progress):
            yield event
            continue
        found.append(concatenated(event.expectations))
        spectra.append(_spectrum(event.left, scene.job.particles))
        volumes.append(_solved(scene, event.sums))
        del event
    return found, volumes, spectra


def _solved(scene: Scene, sums: Accumulator) -> Volume:
    with scene.clock("reconstruct"):
        rho = regularisation(scene.last.fsc["corrected"].value)
        return solve(fetched(sums, scene.backend), scene.job.particles.pixel_size_A, rho, scene.backend.threads)


def common(scene: Scene, half: int, rows: Rows) -> Common:
    """What the images of a half set share."""
    job, last, shape, spec = scene.job, scene.last, scene.shape, scene.job.spec
    with scene.clock("reference"):
        wide = stretch(job.particles)
        made = prepare(last, scene.around, half, job.mask, spec, shape, scene.backend.threads, scene.cutoff_A, wide)
    usual = usual_of(job.particles, rows)
    return Common(spec, shape, made, last.noise[half - 1], usual, maps_are_whole(spec), wide)


def _part(scene: Scene, rows: Rows) -> Part:
    """Images of a half set, in reading order."""
    particles = scene.job.particles
    return Part(rows, particles, scene.last.expectation, scene.known, sampled(rows, len(particles)))


def _alone(scene: Scene) -> Iterator[Progress | Found]:
    """The pass over either half set in this process."""
    done, total = 0, len(scene.job.particles)
    for half in (1, 2):
        part = _part(scene, reading_order(scene.job.particles, half))
        going = go_over(common(scene, half, part.rows), part, scene.backend, scene.clock)
        # Reference and images end with the pass, before the map is made.
        ended: list[Found] = []
        for count in ended_into(ended, going):
            done += count
            yield Progress(scene.last.iteration + 1, "search", done, total)
        del going
        yield ended.pop()


def _shared_out(scene: Scene, crew: Crew) -> Iterator[Progress | Found]:
    """The passes over both half sets by a crew, in ranges that the data alone decide."""
    particles, began = scene.job.particles, time.perf_counter()
    with crew.errand(sent, merged) as errand:
        for half in (1, 2):
            part = _part(scene, reading_order(particles, half))
            rows = ranges(part.rows, particles.box, scene.backend)
            parts = [part.narrowed(some) for some in rows]
            errand.put(common(scene, half, part.rows), parts, [len(some) for some in rows])
        for number in (0, 1):
            for _ in errand.watch(number):
                yield Progress(scene.last.iteration + 1, "search", errand.done, len(particles))
            found = [errand.result(number)]
            _count(scene.clock, found[0].seconds, time.perf_counter() - began)
            yield found.pop()
            began = time.perf_counter()


def _count(clock: Clock, spent: dict[str, float], waited: float) -> None:
    """Count the time that was waited for workers to the stages that they spent theirs on."""
    total = sum(spent.values())
    for stage, seconds in spent.items():
        clock.seconds[stage] = clock.seconds.get(stage, 0.0) + waited * seconds / max(total, 1e-9)


def _joined(found: list[Expectation], particles: Particles) -> Expectation:
    """The half sets' results in the particles' order; the mean scale of a half set is 1."""
    half = particles.half
    order = np.argsort(np.concatenate([reading_order(particles, number) for number in (1, 2)]))
    whole = concatenated(found).select(order)
    mean = np.array([whole.scale[half == number].mean() for number in (1, 2)])
    return replace(whole, scale=whole.scale / mean[half - 1])


def maps_are_whole(spec: RefineSpec) -> bool:
    """Whether iterations make their maps of the images as they are: a dynamic mask has to see where it can grow.

    Otherwise the images go into the map as they were searched, less what lies outside the mask.
    """
    return spec.mask_mode == "dynamic" or not spec.subtract_outside


def about(job: Job, first: Step, step: Step, workers: int) -> Float32 | None:
    """What was subtracted from the images of which the maps of `step` are made: (2, n, n, n) by half set, or None.

    job: the one that made the step. first: its run's Step 0, whose maps are whole.
    """
    if step.iteration == 0 or maps_are_whole(job.spec):
        return None
    around = outside(job, first, job.mask, workers)
    return around.maps if around else None


def under(job: Job, made: Job, first: Step, step: Step, backend: Backend) -> Step:
    """The step as `job` takes it up: half maps with all that lies about, and FSC curves inside the job's mask.

    made: the job that made the step, with another mask or other settings. first: the run's Step 0.
    """
    maps, rest = step.half_maps, about(made, first, step, backend.threads)
    if rest is not None:
        whole = (replace(v, data=v.data + r) for v, r in zip((maps.first, maps.second), rest, strict=True))
        maps = HalfMaps(*whole)
    fsc = family(maps.first, maps.second, job.mask, job.spec.seed, backend.threads, part=True)
    return replace(step, half_maps=maps, fsc=fsc)


def iterate(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Advance until converged (plus extra passes) or `max_iterations`; yields everything `advance` does."""
    if finished(job.spec, last):
        return
    clock = Clock()
    with clock("reference"):
        around = outside(job, first, job.mask, backend.threads)
    while not finished(job.spec, last):
        for event in _advance(job, around, first, last, backend, clock):
            yield event
            if isinstance(event, Step):
                last = event
        clock = Clock()


def final_map(job: Job, step: Step) -> Volume:
    """Mean of the half maps, filtered by √(2 FSC / (1 + FSC)) of the corrected FSC; not masked."""
    first, second = step.half_maps.first, step.half_maps.second
    mean = filter_map(0.5 * (first.data + second.data), combined_gain(step.fsc["corrected"].value))
    return Volume(mean, first.pixel_size_A, job.mask.header_origin_A)


def whole_map(job: Job, first: Step, step: Step, workers: int = 1) -> Volume:
    """The final map amid what lies outside the mask; where that was subtracted, it is as the run's Step 0 has it."""
    made, rest = final_map(job, step), about(job, first, step, workers)
    return made if rest is None else replace(made, data=made.data + rest.mean(axis=0))


def mask_of(job: Job, step: Step, workers: int = 1) -> Volume:
    """The mask of the iteration after `step`: the job's own, or one made from the step's map where it is dynamic.

    A dynamic mask takes over once the half maps agree to `dynamic_mask_start_A` inside the job's. Density further than
    `dynamic_mask_far_A` from that mask does not count, so that it stays with its body.
    """
    spec, given = job.spec, job.mask
    late = step.iteration > 0 and step.fsc["masked"].resolution_A() <= spec.dynamic_mask_start_A
    if spec.mask_mode == "static" or not late:
        return given
    region = soft_edge(given.data > 0.5, given.pixel_size_A, 0.0, spec.dynamic_mask_far_A)
    seen = final_map(job, step).data * region
    threshold, near, far = spec.dynamic_mask_threshold, spec.dynamic_mask_near_A, spec.dynamic_mask_far_A
    return replace(given, data=dynamic_mask(seen, given.pixel_size_A, threshold, near, far, workers=workers))
