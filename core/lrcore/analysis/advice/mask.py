"""Check the mask: too sharp an edge, density of the body outside, and static density inside."""

from collections.abc import Iterator

import numpy as np

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.static_density import find_static_density, mask_without
from lrcore.errors import InputError
from lrcore.imaging.grids import radius_grid
from lrcore.maps.body_maps import half_maps_of_body
from lrcore.maps.fsc import band_correlation
from lrcore.maps.solvent_mask import outline_distance_A
from lrcore.masks import EDGE_PER_RESOLUTION, edge_width, mask_from_region
from lrcore.records import HalfMaps, Step, Volume
from lrcore.refinement.density import maps_include_surroundings, mask_of_all_copies
from lrcore.refinement.parameters import RefineSpec

MIN_EDGE_WIDTH_RATIO = 0.4
"""Edge width, as a share of the recommended `EDGE_PER_RESOLUTION` times the resolution, below which it is too sharp."""
RING_A = (8.0, 30.0)
"""Distances from the outline of the mask, Å, between which density counts as outside the mask."""
PARTICLE_A = 8.0
"""Distance from the outline of the particle, Å, up to which voxels count as part of it."""
COARSEST_A, FINEST_A = 40.0, 8.0
"""Band, Å, in which the half maps are correlated outside the mask; its fine end is no finer than the resolution."""
OUTSIDE_CORRELATION = 0.36
"""Correlation of the half maps outside the mask from which the mask cuts the body.

Measured: 0.03 to 0.3 where the mask contains all of the body, 0.45 and more where it cuts the body.
"""
STATIC_SHARE = 0.15
"""Share of the density in the mask that agreed better at the start, from which the mask contains static density.

Measured: 0.01 to 0.12 where it contains none.
"""
MIN_AGREEMENT_GAIN = 0.03
"""Mean gain in correlation since the start that is required in addition: without motion, static density is normal."""
WIDEST_CUT_A = 12.0
"""Widest soft edge, Å, where static density is removed: a wider one would remove moving density next to it."""
MIN_ITERATION = 3
"""Iteration from which the poses are good enough for these checks."""
MIN_VOXELS = 50
"""Fewest voxels for which a correlation is computed."""


def mask_findings(first: Step, step: Step, mask: Volume, spec: RefineSpec) -> Iterator[Finding]:
    """Yield the findings about the mask.

    Parameters
    ----------
    first : step 0 of the run, whose half maps show the whole particle
    step : the step to judge
    mask : mask that the step was run with
    spec : parameters that the step was run with
    """
    yield from _sharp_edge_findings(step, mask)
    if step.iteration >= MIN_ITERATION and not maps_include_surroundings(spec):
        yield from _small_mask_findings(first, step, mask, spec)
    if step.iteration >= MIN_ITERATION:
        yield from _static_density_findings(first, step, mask)


def _sharp_edge_findings(step: Step, mask: Volume) -> Iterator[Finding]:
    """Yield a finding if the soft edge is much narrower than recommended at this resolution."""
    resolution, apix = step.history[-1].resolution_masked_A, mask.pixel_size_A
    width, wanted = edge_width(mask.data), EDGE_PER_RESOLUTION * resolution / apix
    if width < MIN_EDGE_WIDTH_RATIO * wanted:
        yield Finding(
            "mask_edge",
            f"the soft edge of the mask is {width * apix:.0f} Å wide, too sharp for a resolution of {resolution:.2g} "
            "Å: the reference rings, and the FSC inside the mask is inflated",
            f"use a mask with the same outline and an edge {wanted * apix:.0f} Å wide (5 × the resolution)",
            width / wanted,
            MIN_EDGE_WIDTH_RATIO,
            mask=_with_edge_width(mask, wanted * apix),
        )


def _with_edge_width(mask: Volume, edge_A: float) -> Volume | None:
    """Return the mask with the same outline and an edge of this width; None if the outline is too small for it."""
    try:
        soft = mask_from_region(mask.data > 0.5, mask.pixel_size_A, -edge_A / 2, edge_A)
    except InputError:
        return None
    return Volume(soft, mask.pixel_size_A, mask.header_origin_A)


def _small_mask_findings(first: Step, step: Step, mask: Volume, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding if the half maps agree just outside the mask, where static density has been subtracted."""
    ring = _particle_around_mask(first.half_maps, mask_of_all_copies(mask, spec.symmetry))
    if ring.sum() < MIN_VOXELS:
        return
    finest_A = max(step.history[-1].resolution_corrected_A, FINEST_A)
    agreement = band_correlation(half_maps_of_body(step), ring, COARSEST_A, finest_A)
    if agreement > OUTSIDE_CORRELATION:
        yield Finding(
            "mask_small",
            f"density outside the mask moves with the body: {RING_A[0]:.0f} to {RING_A[1]:.0f} Å outside the outline "
            f"the half maps correlate by {agreement:.2f} (limit {OUTSIDE_CORRELATION:g}), although all static density "
            "has been subtracted there",
            f"enlarge the mask by {RING_A[0]:.0f} to {RING_A[1]:.0f} Å where the map shows density, or let it follow "
            "the map: mask_mode dynamic",
            agreement,
            OUTSIDE_CORRELATION,
            {"mask_mode": "dynamic", "dynamic_mask_start_A": round(2 * step.history[-1].resolution_masked_A, 1)},
        )


def _static_density_findings(first: Step, step: Step, mask: Volume) -> Iterator[Finding]:
    """Yield a finding if part of the density in the mask was sharper before the refinement."""
    resolution_A = step.history[-1].resolution_corrected_A
    static = find_static_density(first.half_maps, half_maps_of_body(step), mask, resolution_A)
    if static.share < STATIC_SHARE or static.agreement_gain < MIN_AGREEMENT_GAIN:
        return
    edge_A = min(max(edge_width(mask.data), 2.0) * mask.pixel_size_A, WIDEST_CUT_A)
    yield Finding(
        "mask_still",
        f"{100 * static.share:.0f} % of the density in the mask does not move with the body: there the half maps "
        "agreed better at the start, while over the whole mask their local correlation rose by "
        f"{static.agreement_gain:.2f}; this density biases every pose towards the input",
        "use a mask without this density",
        static.share,
        STATIC_SHARE,
        mask=mask_without(mask, static.where, edge_A),
    )


def _particle_around_mask(maps: HalfMaps, mask: Volume) -> np.ndarray:
    """Return the voxels (n, n, n) bool of the particle at the distances `RING_A` from the mask."""
    from scipy.ndimage import distance_transform_edt

    n, apix = mask.box, mask.pixel_size_A
    away = distance_transform_edt(mask.data < 0.5) * apix
    inside = outline_distance_A(maps.first.data, maps.second.data, apix) < PARTICLE_A
    return np.asarray((away > RING_A[0]) & (away < RING_A[1]) & inside & (radius_grid(n, 3) < 0.45 * n))
