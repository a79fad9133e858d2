"""Find the particles, half maps and mask in a job folder of CryoSPARC or RELION."""

import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from lrcore.errors import InputError
from lrcore.io import cs_particles, cs_table, star_text
from lrcore.io.cs_table import CsSource, decode_text
from lrcore.io.passthrough_files import is_passthrough, passthrough_files
from lrcore.io.paths import find_in_parent_folders

ITERATION = re.compile(r"_(\d{3})_")
RELION_FINAL = re.compile(r"run(_ct\d+)?_data\.star")
RELION_ITERATION = re.compile(r"run(_ct\d+)?_it(\d+)_data\.star")
REJECTED = re.compile(r"(?:^|_)(?:excluded|rejected)(?:_|$)")
"""Outputs of particles that a job has removed, such as particles_excluded of Select 2D."""
HALVES = ("map_half_A", "map_half_B")
MASK = "mask_refine"


PARTS = ("particles", "half_maps", "mask")


@dataclass(frozen=True)
class JobFiles:
    """Files found in a job folder.

    Attributes
    ----------
    particles : particle file
    half_maps : two half maps, or empty
    mask : mask, or None
    notes : part that was searched for → one line: the file found, or that there is none
    """

    particles: Path
    half_maps: tuple[Path, ...]
    mask: Path | None
    notes: dict[str, str]


def is_job_folder(folder: Path) -> bool:
    """Return whether a folder has the files of a CryoSPARC or RELION job.

    Parameters
    ----------
    folder : existing folder
    """
    return bool(_cryosparc_files(folder) or _relion_files(folder))


def find_job_files(folder: Path, parts: Collection[str] = PARTS) -> JobFiles:
    """Find the particles of a job folder and, if requested, its half maps and mask, of the last iteration.

    Parameters
    ----------
    folder : job folder of CryoSPARC or RELION
    parts : any of "particles", "half_maps", "mask"; the particles are always searched for

    Returns
    -------
    JobFiles

    Raises
    ------
    InputError
        If there are no particles, or several files match; names them.
    """
    cs, star = _cryosparc_files(folder), _relion_files(folder)
    if cs and star:
        raise InputError(
            f"{folder}: contains both {cs[0].name} and {star[0].name}: give the particle file instead of the folder"
        )
    if not cs and not star:
        raise InputError(f"{folder}: is not a job folder (no .csg or .cs, no run_data.star): give the particle file")
    if cs:
        groups = _groups(path for path in cs if path.suffix.lower() == ".csg")
        particles = _cryosparc_particles(folder, groups)
        halves = _cryosparc_half_maps(folder, groups) if "half_maps" in parts else ()
        mask = _single_path(folder, "refinement masks", _masks(folder, groups), "--mask") if "mask" in parts else None
    else:
        particles = _relion_particles(folder, star)
        halves = _relion_half_maps(particles) if "half_maps" in parts else ()
        mask = _relion_mask(folder) if "mask" in parts else None
    notes = {
        "particles": f"particles: {particles}",
        "half_maps": f"half maps: {' and '.join(map(str, halves))}" if halves else f"half maps: none in {folder}",
        "mask": f"mask: {mask}" if mask else f"mask: none in {folder}",
    }
    return JobFiles(particles, halves, mask, {part: notes[part] for part in PARTS if part in ("particles", *parts)})


def _cryosparc_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csg", ".cs"))


def _relion_files(folder: Path) -> list[Path]:
    names = (RELION_FINAL, RELION_ITERATION)
    return sorted(path for path in folder.glob("run*_data.star") if any(name.fullmatch(path.name) for name in names))


def _groups(paths: Iterable[Path]) -> list[CsSource]:
    """Read the groups; warn about each one that cannot be read and skip it."""
    groups = []
    for path in paths:
        try:
            groups.append(cs_table.read_source(path))
        except InputError as error:
            warnings.warn(f"skipped: {error}", stacklevel=4)
    return groups


def _cryosparc_particles(folder: Path, groups: list[CsSource]) -> Path:
    """Find the group with poses and complete files, else the .cs with poses, of the last iteration."""
    complete = [group.path for group in groups if cs_particles.alignment_slot(group) and not group.missing_files]
    tables = [] if complete else _last_iteration_files(path for path in folder.glob("*.cs") if _has_poses(path))
    found = complete or tables
    kept = [path for path in found if not REJECTED.search(path.stem)]
    particles = _single_path(folder, "particle files with poses", kept or found)
    if particles is None:
        raise InputError(f"{folder}: no .csg or .cs in it has 3D poses and all its files: give the particle file")
    return particles


def _cryosparc_half_maps(folder: Path, groups: list[CsSource]) -> tuple[Path, ...]:
    """Find the half maps that a volume group names, else the files named as half maps, of the last iteration."""
    named = [
        [_path_in_slot(group, slot) for slot in HALVES]
        for group in groups
        if {f"{slot}/path" for slot in HALVES} <= group.fields
    ]
    pairs = list(dict.fromkeys(tuple(path for path in pair if path) for pair in named if all(pair)))
    if len(pairs) > 1:
        listed = ", ".join(str(pair[0]) for pair in pairs)
        raise InputError(f"{folder}: contains several pairs of half maps ({listed}): choose one with --half-maps")
    if pairs:
        return pairs[0]
    sides = [
        _single_path(folder, "half maps", _last_iteration_files(folder.glob(f"*{slot}.mrc")), "--half-maps")
        for slot in HALVES
    ]
    return tuple(path for path in sides if path) if all(sides) else ()


def _path_in_slot(source: CsSource, slot: str) -> Path | None:
    return find_in_parent_folders(decode_text(source.table[f"{slot}/path"])[0], source.path.parent)


def _masks(folder: Path, groups: list[CsSource]) -> list[Path]:
    named = [_path_in_slot(group, MASK) for group in groups if f"{MASK}/path" in group.fields]
    existing = list(dict.fromkeys(path for path in named if path is not None))
    return existing or _last_iteration_files(folder.glob(f"*{MASK}.mrc"))


def _has_poses(path: Path) -> bool:
    """Return whether a .cs has poses, from the field names in its header and those of its passthrough files."""
    if is_passthrough(path):
        return False
    try:
        if _lists_poses(path):
            return True
    except InputError as error:
        raise InputError(f"{error} (or give the particle file instead of the folder)") from error
    try:
        beside = [file for files in passthrough_files(path) for file in files]
        return any(map(_lists_poses, beside)) and cs_particles.alignment_slot(cs_table.read_source(path)) is not None
    except InputError as error:  # such as an output without rows
        warnings.warn(f"skipped: {error}", stacklevel=4)
        return False


def _lists_poses(path: Path) -> bool:
    return not {f"{slot}/pose" for slot in (cs_particles.ALIGNMENTS, cs_particles.MULTI)}.isdisjoint(
        cs_table.field_names(path)
    )


def _last_iteration_files(paths: Iterable[Path]) -> list[Path]:
    """Keep the last of files that differ only in their iteration number."""
    last: dict[str, Path] = {}
    for path in sorted(paths):
        last[ITERATION.sub("_", path.name)] = path
    return list(last.values())


def _relion_particles(folder: Path, files: list[Path]) -> Path:
    """Find the final particle file of the job or, if it has not finished, that of its last iteration."""
    final = _single_path(folder, "final particle files", [path for path in files if RELION_FINAL.fullmatch(path.name)])
    return final or max(files, key=lambda path: int(path.name.removesuffix("_data.star").rpartition("it")[2]))


def _relion_half_maps(particles: Path) -> tuple[Path, ...]:
    """Find the unfiltered half maps of the final particles; RELION writes them at the end of the job only."""
    stem = particles.name.removesuffix("data.star")
    halves = tuple(particles.with_name(f"{stem}half{half}_class001_unfil.mrc") for half in (1, 2))
    return halves if all(path.is_file() for path in halves) else ()


def _relion_mask(folder: Path) -> Path | None:
    """Find the mask that the job used or, if it used none, that of the project's only MaskCreate job."""
    name = _job_option(folder / "job.star", "fn_mask")
    if not name:
        masks = sorted(folder.absolute().parent.parent.glob("MaskCreate/*/mask.mrc"))
        return _single_path(folder, "MaskCreate masks", masks, "--mask")
    mask = find_in_parent_folders(name, folder)
    if mask is None:
        raise InputError(f"{folder / 'job.star'}: mask {name} does not exist: give one with --mask")
    return mask


def _job_option(path: Path, option: str) -> str:
    """Return an option of a job.star; empty if it is not set."""
    if not path.is_file():
        return ""
    for block in star_text.read_blocks(path).values():
        if "rlnJobOptionVariable" in block.columns and "rlnJobOptionValue" in block.columns:
            values = dict(zip(block["rlnJobOptionVariable"], block["rlnJobOptionValue"], strict=True))
            return str(values.get(option, "")).strip('"')
    return ""


def _single_path(folder: Path, what: str, paths: list[Path], option: str = "") -> Path | None:
    """Return the only path, or None if there is none. Raises InputError listing them if there are several."""
    if len(paths) > 1:
        listed = ", ".join(str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths)
        remedy = f"choose one with {option}" if option else "give one of them instead of the folder"
        raise InputError(f"{folder}: contains several {what} ({listed}): {remedy}")
    return paths[0] if paths else None
