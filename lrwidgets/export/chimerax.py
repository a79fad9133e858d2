"""Write a step as a scene for ChimeraX: map of the body and of the particle, mask, fulcrum and motions.

The scene is a command script (.cxc) and markers (.bild, https://www.cgl.ucsf.edu/chimerax/docs/user/formats/bild.html).
"""

from pathlib import Path

import numpy as np
import xarray as xr

from lrcore.arrays import Float64
from lrcore.io.paths import atomic_write
from lrcore.records import Step, Volume
from lrcore.refinement.geometry import step_fulcrum_A
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_checks import mask_centre_A
from lrcore.units import DEGREE

SCENE_FILE, MARKERS_FILE = "scene.cxc", "scene.bild"
SHARE_BELOW_LEVEL = 0.985
"""Share of the voxels below the initial contour level."""
MOTION_RANGE_SD = 2.0
"""Range of the motion that is shown, to either side of its mean, in SD."""
MIN_DISPLACEMENT_SHARE = 0.1
"""Share of the displacement below which a motion is not drawn."""
SEARCH_FULCRUM_COLOUR, ESTIMATED_FULCRUM_COLOUR = "0.9 0.1 0.1", "1.0 0.65 0.0"
COLOURS = ("1.0 0.65 0.0", "0.8 0.1 0.8", "0.1 0.5 0.1", "0.4 0.1 0.6", "0.5 0.3 0.1", "0.1 0.1 0.1")
"""Red, green and blue: of the fulcrum of the search, of the estimated fulcrum, and of the motions."""
FULCRUM_RADIUS_A, SHAFT_A, HEAD_A = 3.0, 0.8, 2.0


def display_level(volume: Volume) -> float:
    """Return the initial contour level of a map."""
    return float(np.quantile(volume.data, SHARE_BELOW_LEVEL))


def write_scene(folder: Path, maps: dict[str, Volume], job: Job, step: Step, motions: xr.Dataset | None) -> list[Path]:
    """Write a .cxc that opens the maps of a folder, and a .bild with fulcrum and motions.

    Parameters
    ----------
    folder : folder that already contains map.mrc, map_whole.mrc and mask.mrc
    maps : these three by file name
    job : the job that the step was run with
    step : the step
    motions : as `principal_motions` returns them; None for a start

    Returns
    -------
    list[Path]
        The paths of the script and of the markers.
    """
    level = {name: display_level(maps[name]) for name in ("map.mrc", "map_whole.mrc")}
    script = [
        *(f"open {name}" for name in (*level, "mask.mrc", MARKERS_FILE)),
        f"volume #1 style surface level {level['map.mrc']:.5g} color cornflowerblue",
        f"volume #2 style surface level {level['map_whole.mrc']:.5g} color lightgray transparency 0.6",
        "volume #3 style surface level 0.5 color gold transparency 0.75",
        "view",
    ]
    texts = {SCENE_FILE: script, MARKERS_FILE: bild_lines(job, step, motions)}
    for name, lines in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [folder / name for name in texts]


def bild_lines(job: Job, step: Step, motions: xr.Dataset | None) -> list[str]:
    """Return the lines of the .bild file, in the coordinates of the map files: Å, with the origin of their headers."""
    mask = job.mask
    centre = np.array(mask.header_origin_A) + (mask.box // 2) * mask.pixel_size_A
    fulcrum = centre + np.array(step_fulcrum_A(job, step))
    lines = [
        ".comment the fulcrum of the search",
        f".color {SEARCH_FULCRUM_COLOUR}",
        f".sphere {_point(fulcrum)} {FULCRUM_RADIUS_A}",
    ]
    if motions is None:
        return [*lines, ".comment no motion is estimated before the first iteration"]
    estimated = motions["fulcrum"].values
    lines += [
        ".comment the fulcrum estimated from the poses",
        f".color {ESTIMATED_FULCRUM_COLOUR}",
        f".sphere {_point(centre + estimated)} 2",
    ]
    body = np.array(mask_centre_A(mask))
    radius = float(np.linalg.norm(body - estimated)) or 1.0
    for number, colour in zip(motions["motion"].values, COLOURS, strict=False):
        motion = motions.sel(motion=number)
        if float(motion["share"]) < MIN_DISPLACEMENT_SHARE:
            continue
        turn = motion["turn"].values * DEGREE
        axis = turn / max(float(np.linalg.norm(turn)), 1e-12) * radius
        moved = MOTION_RANGE_SD * (np.cross(turn, body - estimated) + motion["shift"].values)
        angle = MOTION_RANGE_SD * float(np.linalg.norm(motion["turn"]))
        lines += [
            f".comment motion {number}, {100 * float(motion['share']):.0f} % of the displacement: its axis",
            f".color {colour}",
            _arrow(centre + estimated - axis, centre + estimated + axis),
            f".comment displacement of the centre of the body, {MOTION_RANGE_SD:g} SD "
            f"to either side ({angle:.1f} degree)",
            _arrow(centre + body - moved, centre + body + moved),
        ]
    return lines


def _arrow(start: Float64, end: Float64) -> str:
    """Format an arrow between two points (3,), Å."""
    return f".arrow {_point(start)} {_point(end)} {SHAFT_A} {HEAD_A} 0.85"


def _point(position: Float64) -> str:
    """Format a point (3,), Å."""
    return " ".join(f"{value:.3f}" for value in position)
