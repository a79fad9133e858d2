"""The ways into a session and out of it that every face offers, in the same words."""

from collections.abc import Mapping
from pathlib import Path

from lrcore.errors import InputError
from lrwidgets.example import make_example
from lrwidgets.export.step_files import ExportTargets
from lrwidgets.session.session import Session

FILES = (
    ("particles", "Particles", ".star, .cs or .csg with 3D poses, or the folder of a job, of a consensus refinement"),
    ("mask", "Mask", "soft mask of the part to refine, .mrc"),
    ("halves", "Half maps", "two maps with a comma between them, or one volume .csg; empty: made from the particles"),
    ("images", "Images folder", "where image names start from; empty: beside the particles"),
    ("out", "New run", "folder to write, such as run.zarr; empty: kept in memory only"),
    ("run", "or open a run", "a run to go on with: RUN.zarr"),
)
"""What a person is asked for: name, label and help."""
NEEDED = {"particles": "type the path of their .star, .cs or .csg", "mask": "type its path, or make one first"}
EXPORT_KINDS = (
    ("star", "particles.star for RELION"),
    ("cs", "particles.cs and .csg for CryoSPARC"),
    ("maps", "half maps, map and mask as .mrc"),
    ("chimerax", "scene for ChimeraX with fulcrum and motion"),
    ("fsc_xml", "fsc.xml for EMDB"),
    ("fsc_star", "postprocess.star with the FSC for RELION"),
    ("netcdf", "all results as netCDF (xarray)"),
)
"""What can be exported: name and label."""
EXPORT_FILE_NAMES = {
    "star": "particles.star",
    "cs": "particles.cs",
    "maps": "maps",
    "chimerax": "chimerax",
    "fsc_xml": "fsc.xml",
    "fsc_star": "postprocess.star",
    "netcdf": "results.nc",
}
"""As what, in the folder that is asked for."""
OFF = ("cs", "chimerax", "fsc_xml", "fsc_star", "netcdf")
"""Kinds that are written only if they are asked for."""


def load_session(fields: Mapping[str, str]) -> Session:
    """A session on files, given as text by the names in FILES. Raises InputError for what is missing or unusable."""
    words = {name: text.strip() for name, text in fields.items()}
    folder = bool(words["particles"]) and Path(words["particles"]).is_dir()
    for name, remedy in NEEDED.items():
        if not words[name] and not (name == "mask" and folder):
            raise InputError(f"no {name} given: {remedy}")
    halves = tuple(part.strip() for part in words["halves"].split(",") if part.strip())
    images, out = words["images"] or None, words["out"] or None
    return Session.load(words["particles"], words["mask"] or None, halves, images=images, out=out)


def open_run(path: str) -> Session:
    """A session on a run. Raises InputError if none is named, or it cannot be opened."""
    if not path.strip():
        raise InputError("no run is given: type the path of one, RUN.zarr")
    return Session.open(path.strip())


def open_example(folder: str | Path = "example") -> Session:
    """A session on the example, in a folder."""
    files = make_example(folder)
    return Session.load(files.particles, files.mask, files.half_maps)


def export_step(session: Session, folder: str, chosen: list[str]) -> list[Path]:
    """Export what is chosen of KINDS into a folder, made if need be: the paths written.

    Raises InputError if no folder is given, something cannot be written, or a source is in the way.
    """
    if not folder.strip():
        raise InputError("no folder is given: type one")
    base = Path(folder.strip())
    base.mkdir(parents=True, exist_ok=True)
    targets: ExportTargets = {}
    targets.update({name: base / EXPORT_FILE_NAMES[name] for name in chosen})  # type: ignore[typeddict-item]
    return session.export(**targets)
