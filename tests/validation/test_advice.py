"""Advice on refinements that were simulated with something wrong in them."""

from pathlib import Path

from lrcore.advise import advise
from lrcore.backend import Backend
from lrcore.records import Step
from lrcore.refine import advance, start
from tests.validation.advice_scenarios import Scenario, World, scenarios, sound, world
from tests.validation.judge import last_step, tell

ITERATIONS, SEED = 3, 1


def chosen(fault: str, severity: str) -> Scenario:
    (found,) = [one for one in (*scenarios(), *sound()) if (one.fault, one.severity) == (fault, severity)]
    return found


def refined(made: World) -> Step:
    first = step = last_step(start(made.job, made.backend))
    for _ in range(ITERATIONS):
        step = last_step(advance(made.job, first, step, made.backend))
    return step


def test_an_extent_that_is_too_small_is_found_and_mended(backend: Backend, tmp_path: Path) -> None:
    case = chosen("rotation extent", "3° for 5°")
    made = case.make(world(tmp_path, SEED, case.data, backend))
    step = refined(made)
    found = {one.name: one for one in advise(step, made.job.spec, made.job.mask)}
    assert case.expected <= set(found)
    mended = made.with_spec(**found["at_rotation_extent"].changes)
    before, after = made.quality(step), made.quality(refined(mended))
    tell(f"rotation extent 3° for a motion of 5°: mean FSC to the truth {before:.3f}, as advised {after:.3f}")
    assert after > before + 0.01


def test_a_sharp_mask_is_named(backend: Backend, tmp_path: Path) -> None:
    case = chosen("mask edge", "1 voxel")
    made = case.make(world(tmp_path, SEED, case.data, backend))
    assert case.expected <= {one.name for one in advise(refined(made), made.job.spec, made.job.mask)}
