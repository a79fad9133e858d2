"""What is asked of a step once it is there, at the reference setting: its motion, advice, uncertainty, comparisons."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

from lrcore.advise import advise
from lrcore.audit import audit
from lrcore.backend import Backend, pick
from lrcore.estimate import estimate
from lrcore.heldout import held_out
from lrcore.records import Step
from lrcore.refine import Job, advance, start
from lrcore.uncertainty import uncertainty
from lrcore.workload import workload
from lrwidgets.advising import LOOKS
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measured import Measured, Options, median_of
from lrwidgets.bench.step import last_step, setting, warm

COMPARED = 2000
"""Images by which `Session.compare` judges."""


def run(options: Options) -> Iterator[Measured]:
    """After two iterations."""
    n = 500 if options.quick else 4000
    options.tell(f"simulating {n} particles, and two iterations")
    job = workload(options.folder, n, SETTING).job
    warm()
    backend = pick("cpu", options.threads)
    steps = [last_step(start(job, backend))]
    for _ in range(2):
        steps.append(last_step(advance(job, steps[0], steps[-1], backend)))
    known = {**setting(job), "particles": n, "threads": backend.threads}
    for name, work in questions(job, steps, backend).items():
        options.tell(name)
        yield Measured("asked", name, median_of(work, options.repeats), "s", known)
    options.tell("learning in an iteration")
    learns = replace(job, spec=job.spec.model_copy(update={"prior": "motion"}))
    spent = [last_step(advance(learns, steps[0], steps[-1], backend)).history[-1] for _ in range(options.repeats)]
    yield Measured(
        "asked", "learning in an iteration", statistics.median(s.seconds["learn"] for s in spent), "s", known
    )


def questions(job: Job, steps: list[Step], backend: Backend) -> dict[str, Callable[[], object]]:
    """What is asked of the last of these steps."""
    first, before, last = steps[0], steps[-2], steps[-1]

    def advice() -> object:
        worth = held_out(first, (job, first), (job, last), backend, LOOKS)
        return advise(job, first, last, estimate(job, last, before), audit(job, first, backend), worth)

    return {
        "motion and fulcrum": lambda: estimate(job, last, before),
        "advice, all of it": advice,
        f"comparison by {COMPARED:,} held-out images": lambda: held_out(
            first, (job, before), (job, last), backend, COMPARED
        ),
        "uncertainty of all, 256 draws each": lambda: list(uncertainty(job, first, last, backend, before)),
    }
