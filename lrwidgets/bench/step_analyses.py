"""Benchmark the analyses of a step at the reference setting: motion, advice, uncertainty, comparisons."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

from lrcore.analysis.advice.advise import advise_on_step
from lrcore.analysis.held_out_likelihood import held_out
from lrcore.analysis.input_audit import audit_input
from lrcore.analysis.motion_estimate import estimate_motion
from lrcore.analysis.pose_uncertainty import uncertainty
from lrcore.compute.backend import Backend
from lrcore.records import Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrwidgets.bench.iteration import last_step, simulated_job, workload_parameters
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement, median_seconds
from lrwidgets.session.advice import HELD_OUT_IMAGES

COMPARED_IMAGES = 2000
"""Number of held-out images of `Session.compare`."""


def run(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the analyses after two iterations, and the estimation of the prior within an iteration."""
    n = 500 if options.quick else 4000
    job, backend = simulated_job(options, n, ", and two iterations")
    steps = [last_step(start(job, backend))]
    for _ in range(2):
        steps.append(last_step(run_iteration(job, steps[0], steps[-1], backend)))
    parameters = {**workload_parameters(job), "particles": n, "threads": backend.threads}
    for name, work in analyses_of_step(job, steps, backend).items():
        options.report(name)
        yield Measurement("asked", name, median_seconds(work, options.repeats), "s", parameters)
    options.report("estimating the prior in an iteration")
    with_motion = replace(job, spec=job.spec.model_copy(update={"prior": "motion"}))
    summaries = [
        last_step(run_iteration(with_motion, steps[0], steps[-1], backend)).history[-1] for _ in range(options.repeats)
    ]
    yield Measurement(
        "asked", "learning in an iteration", statistics.median(s.seconds["learn"] for s in summaries), "s", parameters
    )


def analyses_of_step(job: Job, steps: list[Step], backend: Backend) -> dict[str, Callable[[], object]]:
    """Return label → analysis of the last of these steps."""
    first, before, last = steps[0], steps[-2], steps[-1]

    def advice() -> object:
        gain = held_out(first, (job, first), (job, last), backend, HELD_OUT_IMAGES)
        return advise_on_step(
            job, first, last, estimate_motion(job, last, before), audit_input(job, first, backend), gain
        )

    return {
        "motion and fulcrum": lambda: estimate_motion(job, last, before),
        "advice, all of it": advice,
        f"comparison by {COMPARED_IMAGES:,} held-out images": lambda: held_out(
            first, (job, before), (job, last), backend, COMPARED_IMAGES
        ),
        "uncertainty of all, 256 draws each": lambda: list(uncertainty(job, first, last, backend, before)),
    }
