"""Advice on the mask: an edge that rings, a body that goes on beyond it, and what in it stays behind."""

from collections.abc import Iterator

import numpy as np

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.static_density import find_static_density, mask_without
from lrcore.errors import InputError
from lrcore.imaging.grids import radius_grid
from lrcore.maps.fsc import band_correlation
from lrcore.maps.solvent_mask import outline_distance_A
from lrcore.masks import EDGE_PER_RESOLUTION, edge_width, mask_from_region
from lrcore.records import HalfMaps, Step, Volume
from lrcore.refinement.density import maps_include_surroundings
from lrcore.refinement.parameters import RefineSpec

SHARPEST = 0.4
"""Share of the width that the rule of the edge asks for, below which an edge rings."""
RING_A = (8.0, 30.0)
"""How far from the mask's outline density counts as lying beyond it."""
PARTICLE_A = 8.0
"""How far from the particle's outline it still counts as density."""
COARSEST_A, FINEST_A = 40.0, 8.0
"""Between these, or the resolution, what moves with the body is told from what was subtracted at another pose."""
OUTSIDE_CORRELATION = 0.36
"""Correlation of the half maps there: 0.03 to 0.3 where a mask is whole, 0.45 and more where it cuts the body."""
STATIC_SHARE = 0.15
"""Share of the density in a mask that agreed better at the start, from which on it holds what does not move: 0.01 to
0.12 where it does not,"""
MIN_AGREEMENT_GAIN = 0.03
"""if all of it agrees better by so much in correlation: where nothing moves, nothing stays behind either."""
WIDEST_CUT_A = 12.0
"""Edge of the mask where that is taken out: a wider one would take what moves beside it."""
MIN_ITERATION = 3
"""Iteration from which on the poses are good enough for these."""
MIN_VOXELS = 50
"""Voxels from which on a correlation is one."""


def mask_findings(first: Step, step: Step, mask: Volume, spec: RefineSpec) -> Iterator[Finding]:
    """first: the start of the run, whose maps are whole."""
    yield from _sharp_edge_findings(step, mask)
    if step.iteration >= MIN_ITERATION and not maps_include_surroundings(spec):
        yield from _small_mask_findings(first, step, mask)
    if step.iteration >= MIN_ITERATION:
        yield from _static_density_findings(first, step, mask)


def _sharp_edge_findings(step: Step, mask: Volume) -> Iterator[Finding]:
    """Of a mask whose edge is much narrower than the rule asks for at this resolution."""
    resolution, apix = step.history[-1].resolution_masked_A, mask.pixel_size_A
    width, wanted = edge_width(mask.data), EDGE_PER_RESOLUTION * resolution / apix
    if width < SHARPEST * wanted:
        yield Finding(
            "mask_edge",
            f"the mask's soft edge is {width * apix:.0f} Å wide: sharp for {resolution:.2g} Å, it rings in the "
            "reference and lifts the FSC inside the mask",
            f"make the edge {wanted * apix:.0f} Å wide (5 × the resolution) about the same outline, and use that mask",
            width / wanted,
            SHARPEST,
            mask=_with_edge_width(mask, wanted * apix),
        )


def _with_edge_width(mask: Volume, edge_A: float) -> Volume | None:
    """The mask with the same outline and an edge of this width; None if nothing would be whole."""
    try:
        soft = mask_from_region(mask.data > 0.5, mask.pixel_size_A, -edge_A / 2, edge_A)
    except InputError:
        return None
    return Volume(soft, mask.pixel_size_A, mask.header_origin_A)


def _small_mask_findings(first: Step, step: Step, mask: Volume) -> Iterator[Finding]:
    """Of a mask beyond which the half maps of the body's poses agree, though what was there has been subtracted."""
    beyond = _particle_around_mask(first.half_maps, mask)
    if beyond.sum() < MIN_VOXELS:
        return
    finest_A = max(step.history[-1].resolution_corrected_A, FINEST_A)
    agreement = band_correlation(step.half_maps, beyond, COARSEST_A, finest_A)
    if agreement > OUTSIDE_CORRELATION:
        yield Finding(
            "mask_small",
            f"density outside the mask moves with the body: {RING_A[0]:.0f} to {RING_A[1]:.0f} Å beyond its outline "
            f"the half maps agree (correlation {agreement:.2f}), where all that does not move has been subtracted",
            f"make the mask {RING_A[0]:.0f} to {RING_A[1]:.0f} Å larger where the map shows density, or let it grow: "
            "mask_mode dynamic",
            agreement,
            OUTSIDE_CORRELATION,
            {"mask_mode": "dynamic", "dynamic_mask_start_A": round(2 * step.history[-1].resolution_masked_A, 1)},
        )


def _static_density_findings(first: Step, step: Step, mask: Volume) -> Iterator[Finding]:
    """Of density in the mask that was sharper before its body was refined."""
    found = find_static_density(first.half_maps, step.half_maps, mask, step.history[-1].resolution_corrected_A)
    if found.share < STATIC_SHARE or found.agreement_gain < MIN_AGREEMENT_GAIN:
        return
    edge_A = min(max(edge_width(mask.data), 2.0) * mask.pixel_size_A, WIDEST_CUT_A)
    yield Finding(
        "mask_still",
        f"{100 * found.share:.0f} % of the density in the mask does not move with the body: there the half maps agreed "
        "better at the start, though on the whole they agree better now; it holds back every pose",
        "take it out of the mask",
        found.share,
        STATIC_SHARE,
        mask=mask_without(mask, found.where, edge_A),
    )


def _particle_around_mask(maps: HalfMaps, mask: Volume) -> np.ndarray:
    """Voxels of the particle in a ring about the mask."""
    from scipy.ndimage import distance_transform_edt

    n, apix = mask.box, mask.pixel_size_A
    away = distance_transform_edt(mask.data < 0.5) * apix
    inside = outline_distance_A(maps.first.data, maps.second.data, apix) < PARTICLE_A
    return np.asarray((away > RING_A[0]) & (away < RING_A[1]) & inside & (radius_grid(n, 3) < 0.45 * n))
