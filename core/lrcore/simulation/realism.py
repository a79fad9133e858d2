"""Describe what spoils real images; everything is off by default."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrcore.errors import InputError

SHARES = ("junk_share", "missing_share", "second_conformer_share", "occupancy")
SIZES = ("neighbours", "view_concentration", "defocus_sd_A", "bfactor_sd_A2", "contrast_sd", "ice_gradient_sd")
"""Fields of `Realism` between 0 and 1, and of 0 or more."""


@dataclass(frozen=True)
class Realism:
    """Properties of real images that clean simulations lack; the default is the clean simulation.

    Attributes
    ----------
    junk_share
        Share of images without a particle (0 to 1): pure noise, contaminants and ice edges in equal numbers.
    missing_share
        Share of images without body B (0 to 1); none of them is junk.
    second_conformer_share
        Share of the images with body B that show its second conformer (0 to 1).
    conformer_turn_deg
        Angle in degrees by which the far half of body B is turned in the second conformer.
    occupancy
        Weight of the atoms of body B where it is present (0 to 1), as the occupancy of an atomic model.
    neighbours
        Mean number of other particles near enough to reach into the box (0 or more).
    view_concentration
        Concentration κ of the viewing directions about both ends of an axis (0 or more, without a unit), as von
        Mises-Fisher distributions: 0 is uniform; for a large κ the mean angle from the axis is 72° / √κ.
    defocus_sd_A
        SD in Å of the true defocus about that of the table.
    bfactor_sd_A2
        SD in Å² of the B-factors of the images about that of the atoms; no B-factor is negative.
    contrast_sd
        SD of the logarithm of the contrast (without a unit); the table does not say it.
    ice_gradient_sd
        SD of the rise of the background from edge to edge of the box, along x and y, in SDs of the noise.
    beam_tilt_mrad
        (x, y) in mrad that the images have in addition to that of the table.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    junk_share: float = 0.0
    missing_share: float = 0.0
    second_conformer_share: float = 0.0
    conformer_turn_deg: float = 40.0
    occupancy: float = 1.0
    neighbours: float = 0.0
    view_concentration: float = 0.0
    defocus_sd_A: float = 0.0
    bfactor_sd_A2: float = 0.0
    contrast_sd: float = 0.0
    ice_gradient_sd: float = 0.0
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is {getattr(self, name)}: give a share from 0 to 1")
        for name in SIZES:
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} is {getattr(self, name)}: give a number of 0 or more")
        if self.junk_share + self.missing_share > 1.0:
            total = self.junk_share + self.missing_share
            raise InputError(f"junk_share and missing_share add up to {total:g}: give shares with a sum of at most 1")
        if not np.isfinite(self.conformer_turn_deg):
            raise InputError(f"conformer_turn_deg is {self.conformer_turn_deg}: give an angle in degrees")
        if np.shape(self.beam_tilt_mrad) != (2,) or not np.all(np.isfinite(self.beam_tilt_mrad)):
            raise InputError(f"beam_tilt_mrad is {self.beam_tilt_mrad}: give x and y in mrad")


CLEAN = Realism()
"""Nothing is spoilt."""

REALISTIC = Realism(
    junk_share=0.12,
    missing_share=0.20,
    neighbours=1.0,
    defocus_sd_A=300.0,
    bfactor_sd_A2=40.0,
    contrast_sd=0.2,
    ice_gradient_sd=0.3,
)
"""What a stack looks like after particle picking and one round of classification."""

REALISTIC_SET: Mapping[str, Any] = {"realism": REALISTIC, "noise": "coloured", "snr": 0.05}
"""Arguments of `lrcore.simulation.simulate_flexible_particle` for a realistic set."""
