"""Check in how many particles the body is missing."""

from collections.abc import Iterator

from lrcore.analysis.advice.finding import Finding
from lrcore.particles.bad_images import bad_image_mask
from lrcore.records import Step
from lrcore.refinement.presence import estimate_shares

MISSING_SHARE = 0.05
"""Share of the particles without the body that is reported, where it is also more than MIN_ERRORS standard errors."""
MIN_ERRORS = 3.0


def presence_findings(step: Step) -> Iterator[Finding]:
    """Yield a finding if the body is missing in more than a few particles.

    Parameters
    ----------
    step : step of a refinement that weights by presence; of another one nothing is known
    """
    found = step.expectation
    valid = ~bad_image_mask(found.flags)
    shares = estimate_shares(found.evidence[valid], found.misfit[valid])
    missing = 1 - shares.present
    if missing > MISSING_SHARE and missing > MIN_ERRORS * shares.error:
        yield Finding(
            "body_missing",
            f"the body is missing in {100 * missing:.0f} ± {100 * max(shares.error, 0.005):.0f} % of the particles, or "
            "cannot be seen there: these images show nothing in the place of the mask, or something else "
            f"({100 * shares.misfit:.0f} %)",
            "their weight in the maps is small already; refine the others alone, of which all results are: lrwidgets "
            "select RUN --min-presence 0.5 --out FILE",
            missing,
            MISSING_SHARE,
        )
