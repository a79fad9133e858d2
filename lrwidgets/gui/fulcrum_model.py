"""Place the fulcrum of a session: read and write points in every frame, apply them, estimate them from the poses.

Points are (x, y, z) in Å from the box centre unless a frame is named.
"""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Volume
from lrcore.refinement.parameter_checks import parameter_warnings
from lrcore.refinement.parameters import FULCRUM_PATTERN, NAMED_POINTS, fulcrum_point
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import current_fulcrum_estimate

Point = tuple[float, float, float]

UNITS = (
    ("px from the corner", "px"),
    ("Å from the corner", "A"),
    ("Å from the centre", "centre"),
    ("Å in the map's frame", "map"),
)
"""Frames of a point: description, and the word that a typed point ends with. The last needs an origin in the header."""
NAMES = {"mask": "mask centre", "box": "box centre", "estimate": "estimated from motion"}
TIPS = {
    "mask": "the mask's centre of mass",
    "box": "the centre of the box",
    "estimate": "the point estimated from the poses of the present step",
}
"""Tooltips of the buttons."""
ELLIPSE_SDS = 2.0
"""Standard deviations to which the ellipse of an estimate is drawn."""
CENTRE_PATTERN = re.compile(r"^\s*([-+\d.eE]+)\s*,\s*([-+\d.eE]+)\s*,\s*([-+\d.eE]+)\s*centre\s*$")


class FulcrumModel:
    """Apply a fulcrum to a session and estimate it. estimate: from the present step, or None before an iteration."""

    def __init__(
        self, session: Session, panel: PanelBase, show_estimate: Callable[[FulcrumEstimate | None], None]
    ) -> None:
        """show_estimate: shows an estimate, on the publisher's thread."""
        self.session = session
        self.estimate: FulcrumEstimate | None = None
        self._panel, self._show_estimate = panel, show_estimate

    def apply(self, text: str) -> None:
        """Use a fulcrum from the next iteration, and show warnings about it. Raises InputError as `Session.edit`."""
        spec = self.session.edit(fulcrum=text)
        warnings = "; ".join(parameter_warnings(self.session.mask, spec))
        applied = f"Fulcrum: {fulcrum_name(text)} (from the next iteration)"
        self._panel.show_message(warnings or applied, "bad" if warnings else "good")

    def request_estimate(self) -> None:
        """Estimate the fulcrum from the poses of the present step, which takes seconds."""
        self._panel.slow.submit(lambda: current_fulcrum_estimate(self.session), self._show, "fulcrum")

    def _show(self, estimate: FulcrumEstimate | None) -> None:
        self.estimate = estimate
        self._show_estimate(estimate)


def fulcrum_name(text: str) -> str:
    """Return a fulcrum as a person reads it."""
    return NAMES.get(text, text)


def corner_A(volume: Volume, point_A: npt.ArrayLike) -> Float64:
    """Return a point in Å from the corner of the box, the centre of its first voxel."""
    corner: Float64 = np.asarray(point_A, float) + volume.box // 2 * volume.pixel_size_A
    return corner


def coordinates(volume: Volume, point_A: npt.ArrayLike, unit: str) -> Float64:
    """Return a point in the frame of a unit: px, A, centre or map."""
    if unit == "centre":
        return np.asarray(point_A, float)
    corner = corner_A(volume, point_A)
    if unit == "px":
        return corner / volume.pixel_size_A
    return corner + np.array(volume.header_origin_A) if unit == "map" else corner


def format_point(volume: Volume, point_A: npt.ArrayLike, unit: str, description: str = "") -> str:
    """Return a point in the frame of a unit as it is typed, or with a description in place of the unit."""
    return ", ".join(f"{a:.1f}" for a in coordinates(volume, point_A, unit)) + f" {description or unit}"


def parse_fulcrum(volume: Volume, text: str) -> str:
    """Return a fulcrum as typed in any frame as the spec writes it. Raises InputError if it cannot be read."""
    text = _with_short_unit(text)
    try:
        if match := CENTRE_PATTERN.match(text):
            return format_point(volume, [float(a) for a in match.groups()], "A")
        if text in NAMED_POINTS:
            return text
        if FULCRUM_PATTERN.match(text):
            fulcrum_point(text, 1, 1.0, (0.0, 0.0, 0.0))
            return text
    except ValueError:
        pass
    raise InputError(
        f"fulcrum {text!r}: write mask, box, estimate, or 'x, y, z' and px or Å (from the corner of the box), "
        "centre (Å from its centre) or map (Å in the map's frame)"
    )


def _with_short_unit(text: str) -> str:
    """Return a typed point with the unit as a word: "96, 96, 140 Å" and "… Å from the corner" end with A."""
    text = text.strip().replace("\N{ANGSTROM SIGN}", "Å")
    for description, unit in UNITS:
        if text.endswith(description):
            return f"{text.removesuffix(description)}{unit}"
    return text.removesuffix("Å") + "A" if text.endswith("Å") else text


def available_units(volume: Volume) -> tuple[tuple[str, str], ...]:
    """Return the frames of a point: the map's own only if its header has an origin."""
    return UNITS if any(volume.header_origin_A) else UNITS[:3]


def readout_lines(volume: Volume, point_A: npt.ArrayLike) -> list[str]:
    """Return a point in every frame, a line each."""
    return [format_point(volume, point_A, unit, description) for description, unit in available_units(volume)]


def estimate_line(volume: Volume, point_A: npt.ArrayLike, estimate_A: npt.ArrayLike, covariance_A2: Float64) -> str:
    """Return where an estimate lies, how far from a point, and its SD along the least certain axis."""
    distance = float(np.linalg.norm(np.subtract(point_A, estimate_A)))
    sd = float(np.sqrt(np.linalg.eigvalsh(covariance_A2).max()))
    place = format_point(volume, estimate_A, "px")
    return f"Estimated from motion: {place} ({distance:.1f} Å away); ± {sd:.1f} Å (worst direction)"


def rotation_effect(
    ends_A: Float64, middle_A: npt.ArrayLike, point_A: npt.ArrayLike, angle_deg: float
) -> tuple[str, Float64]:
    """Return how far a rotation about a point moves a mask, in words, and the mask's farthest end, (3,).

    ends_A: (n, 3) ends of the mask's rows. middle_A: its centre of mass.
    """
    squares = ((ends_A - np.asarray(point_A)) ** 2).sum(axis=1)
    far = int(squares.argmax())
    chord = 2 * np.sin(np.radians(angle_deg) / 2)
    end, middle = chord * np.sqrt(squares[far]), chord * float(np.linalg.norm(np.subtract(middle_A, point_A)))
    return f"{angle_deg:g}° moves the mask's far end by up to {end:.1f} Å, its centre by {middle:.1f} Å", ends_A[far]
