"""The table of docs/validation.md: scenarios of `advice_scenarios`, what is found in them, what following it does.

    python -m tests.validation.advice_table 11 12

Each seed makes all scenarios anew. A finding is followed in a branch, and the maps of branch and run are compared with
the true body after as many iterations each.
"""

import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lrcore.analysis.advice.advise import advise_on_step
from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.held_out_likelihood import held_out
from lrcore.analysis.input_audit import audit_input
from lrcore.analysis.motion_estimate import estimate_motion
from lrcore.compute.backend import get_backend
from lrcore.records import Step
from lrcore.refinement.density import adopt_step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrwidgets.session.advice import HELD_OUT_IMAGES
from tests.validation.advice_scenarios import Scenario, World, scenarios, sound_scenarios, world
from tests.validation.judge import last_step

BEFORE, AFTER = 4, 3
"""Iterations before a finding, and after it."""
WITHOUT_HALF_MAPS = {"other_hand", "other_scale", "half_maps_share"}
"""Findings that are followed by a start without half maps."""


@dataclass(frozen=True)
class Run:
    """A refinement: steps[0] is its start."""

    world: World
    steps: tuple[Step, ...]

    def continue_with(self, job: Job, count: int) -> Step:
        """The last step after more iterations with this job."""
        backend, step = self.world.backend, self.steps[-1]
        if job.mask is not self.world.job.mask or job.spec.mask_mode != self.world.job.spec.mask_mode:
            step = adopt_step(job, self.world.job, self.steps[0], step, backend)
        for _ in range(count):
            step = last_step(run_iteration(job, self.steps[0], step, backend))
        return step


def run(made: World, count: int = BEFORE) -> Run:
    """A refinement of so many iterations."""
    steps = [last_step(start(made.job, made.backend))]
    for _ in range(count):
        steps.append(last_step(run_iteration(made.job, steps[0], steps[-1], made.backend)))
    return Run(made, tuple(steps))


def find_advice(done: Run) -> tuple[Finding, ...]:
    """What is found in the last step."""
    job, steps = done.world.job, done.steps
    motion, backend = estimate_motion(job, steps[-1], steps[-2]), done.world.backend
    worth = held_out(steps[0], (job, steps[0]), (job, steps[-1]), backend, HELD_OUT_IMAGES)
    return advise_on_step(
        job, steps[0], steps[-1], motion, audit_input(job, steps[0], backend).with_first_iteration(steps[1]), worth
    )


def follow_advice(done: Run, advice: Finding) -> Step | None:
    """The last step of a branch that does what is advised; None where that is to look at the particles."""
    made, job = done.world, done.world.job
    if advice.name == "halves_share":
        return None
    if advice.name in WITHOUT_HALF_MAPS:
        return run(replace(made, job=replace(job, half_maps=None)), BEFORE + AFTER).steps[-1]
    if advice.mask is not None:
        return done.continue_with(replace(job, mask=advice.mask), AFTER)
    changed = made.with_spec(**advice.changes)
    if advice.from_start:
        return run(changed, BEFORE + AFTER).steps[-1]
    return done.continue_with(changed.job, AFTER)


@dataclass(frozen=True)
class ScenarioRow:
    """What came of a scenario. quality: mean FSC to the truth, of the run and of the branch that followed `name`."""

    fault: str
    severity: str
    sound: bool
    seed: int
    found: tuple[str, ...]
    right: tuple[str, ...]
    quality: tuple[float, float] | None

    def __str__(self) -> str:
        names = ", ".join(f"**{n}**" if n in self.right else n for n in self.found)
        mended = "" if self.quality is None else f"{self.quality[0]:.3f} → {self.quality[1]:.3f}"
        return f"| {self.fault} | {self.severity} | {self.seed} | {names} | {mended} |"


def row(number: int, seed: int) -> ScenarioRow:
    """Scenario `number` of sound() and scenarios(), made from this seed."""
    warnings.simplefilter("ignore")
    case, backend = (*sound_scenarios(), *scenarios())[number], get_backend("cpu")
    with tempfile.TemporaryDirectory() as folder:
        return row_of(case, seed, case.make(world(Path(folder), 100 * seed + number, case.data, backend)))


def row_of(case: Scenario, seed: int, made: World) -> ScenarioRow:
    """The same of a world with the fault in it."""
    done = run(made)
    found = [one for one in find_advice(done) if one.name != "nothing"]
    right = [one for one in found if one.name in case.expected]
    quality = None
    if right and (step := follow_advice(done, right[0])) is not None:
        quality = made.quality(done.continue_with(made.job, AFTER)), made.quality(step)
    return ScenarioRow(
        case.fault,
        case.severity,
        case.sound,
        seed,
        tuple(one.name for one in found),
        tuple(one.name for one in right),
        quality,
    )


def rows(seeds: list[int]) -> Iterator[ScenarioRow]:
    """All scenarios of all seeds, in order."""
    count = len(sound_scenarios()) + len(scenarios())
    wanted = [(number, seed) for number in range(count) for seed in seeds]
    with ProcessPoolExecutor(2) as pool:
        yield from pool.map(row, *zip(*wanted, strict=True))


def main() -> None:
    """Print the table and what it comes to."""
    print("| fault | size | seed | found | mean FSC to the truth, run → branch |\n|---|---|---|---|---|")
    all_rows = []
    for one in rows([int(seed) for seed in sys.argv[1:]]):
        all_rows.append(one)
        print(one, flush=True)
    faults = [one for one in all_rows if not one.sound]
    warned = [one for one in all_rows if one.sound and one.found]
    tried = [one.quality for one in faults if one.quality is not None]
    print(f"\n{sum(bool(one.right) for one in faults)} of {len(faults)} faults found by the right name")
    print(f"{len(warned)} of {len(all_rows) - len(faults)} sound runs warned")
    print(f"{sum(b > a for a, b in tried)} of {len(tried)} branches are better than the run")


if __name__ == "__main__":
    main()
