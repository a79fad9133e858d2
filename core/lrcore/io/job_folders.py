"""A job folder of CryoSPARC or RELION as input: its particles, half maps and mask, each found or refused by name."""

import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrcore.errors import InputError
from lrcore.io import cs_particles, cs_table, star_text
from lrcore.io.cs_table import CsSource, decode_text
from lrcore.io.paths import find_in_parent_folders

ITERATION = re.compile(r"_(\d{3})_")
RELION_FINAL = re.compile(r"run(_ct\d+)?_data\.star")
RELION_ITERATION = re.compile(r"run(_ct\d+)?_it(\d+)_data\.star")
HALVES = ("map_half_A", "map_half_B")
MASK = "mask_refine"


PARTS = ("particles", "half_maps", "mask")


@dataclass(frozen=True)
class JobFiles:
    """What a job folder holds. half_maps: two, or none. mask: None where there is none.

    notes: for each part that was looked for a line: what it is, or why there is none.
    """

    particles: Path
    half_maps: tuple[Path, ...]
    mask: Path | None
    notes: dict[str, str]


def is_job_folder(folder: Path) -> bool:
    """Whether a folder has the files of a job of CryoSPARC or RELION."""
    return bool(_cryosparc_files(folder) or _relion_files(folder))


def find_job_files(folder: Path, parts: Collection[str] = PARTS) -> JobFiles:
    """The particles of a job folder and, of half maps and mask, what `parts` asks for; the last iteration of each.

    Raises InputError naming the files where it is ambiguous, or if there are no particles.
    """
    cs, star = _cryosparc_files(folder), _relion_files(folder)
    if cs and star:
        raise InputError(f"{folder}: holds {cs[0].name} and {star[0].name}: give the file of the particles itself")
    if not cs and not star:
        raise InputError(f"{folder}: is no job folder (no .csg or .cs, no run_data.star): give the particles' file")
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
        "mask": f"mask: {mask}" if mask else f"mask: none that {folder} names",
    }
    return JobFiles(particles, halves, mask, {part: notes[part] for part in PARTS if part in ("particles", *parts)})


def _cryosparc_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csg", ".cs"))


def _relion_files(folder: Path) -> list[Path]:
    names = (RELION_FINAL, RELION_ITERATION)
    return sorted(path for path in folder.glob("run*_data.star") if any(name.fullmatch(path.name) for name in names))


def _groups(paths: Iterable[Path]) -> list[CsSource]:
    """The groups that can be read; a warning of each other one."""
    groups = []
    for path in paths:
        try:
            groups.append(cs_table.read_source(path))
        except InputError as error:
            warnings.warn(f"left out: {error}", stacklevel=4)
    return groups


def _cryosparc_particles(folder: Path, groups: list[CsSource]) -> Path:
    """A group with poses whose files are all there, else a .cs with poses, of the last iteration."""
    whole = [one.path for one in groups if cs_particles.alignment_slot(one) and not one.missing_files]
    tables = [] if whole else _last_iteration_files(path for path in folder.glob("*.cs") if _has_poses(path))
    particles = _single_path(folder, "particle files with poses", whole or tables)
    if particles is None:
        raise InputError(f"{folder}: none of its .csg and .cs has 3D poses and all its files: give the particles' file")
    return particles


def _cryosparc_half_maps(folder: Path, groups: list[CsSource]) -> tuple[Path, ...]:
    """The maps that a volume group names or, where none are there, those named as half maps of the last iteration."""
    named = [
        [_path_in_slot(one, slot) for slot in HALVES]
        for one in groups
        if {f"{slot}/path" for slot in HALVES} <= one.fields
    ]
    pairs = list(dict.fromkeys(tuple(one for one in pair if one) for pair in named if all(pair)))
    if len(pairs) > 1:
        listed = ", ".join(str(pair[0]) for pair in pairs)
        raise InputError(f"{folder}: has several half maps ({listed}): choose by --half-maps")
    if pairs:
        return pairs[0]
    sides = [
        _single_path(folder, "half maps", _last_iteration_files(folder.glob(f"*{slot}.mrc")), "--half-maps")
        for slot in HALVES
    ]
    return tuple(one for one in sides if one) if all(sides) else ()


def _path_in_slot(source: CsSource, slot: str) -> Path | None:
    return find_in_parent_folders(decode_text(source.table[f"{slot}/path"])[0], source.path.parent)


def _masks(folder: Path, groups: list[CsSource]) -> list[Path]:
    named = [_path_in_slot(one, MASK) for one in groups if f"{MASK}/path" in one.fields]
    there = list(dict.fromkeys(path for path in named if path is not None))
    return there or _last_iteration_files(folder.glob(f"*{MASK}.mrc"))


def _has_poses(path: Path) -> bool:
    """By the names of its fields alone, which are at the beginning of the file."""
    if "passthrough" in path.name:
        return False
    try:
        names = np.load(path, mmap_mode="r", allow_pickle=False).dtype.names or ()
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is truncated or damaged: give the particles' file itself") from error
    return any(f"{slot}/pose" in names for slot in (cs_particles.ALIGNMENTS, cs_particles.MULTI))


def _last_iteration_files(paths: Iterable[Path]) -> list[Path]:
    """Of files that differ in the number of the iteration alone, the last one."""
    last: dict[str, Path] = {}
    for path in sorted(paths):
        last[ITERATION.sub("_", path.name)] = path
    return list(last.values())


def _relion_particles(folder: Path, files: list[Path]) -> Path:
    """The result of the job or, if it has not ended, its last iteration."""
    final = _single_path(folder, "final particle files", [path for path in files if RELION_FINAL.fullmatch(path.name)])
    return final or max(files, key=lambda path: int(path.name.removesuffix("_data.star").rpartition("it")[2]))


def _relion_half_maps(particles: Path) -> tuple[Path, ...]:
    """The unfiltered half maps beside the result; of a job that has not ended, none are written."""
    stem = particles.name.removesuffix("data.star")
    halves = tuple(particles.with_name(f"{stem}half{half}_class001_unfil.mrc") for half in (1, 2))
    return halves if all(path.is_file() for path in halves) else ()


def _relion_mask(folder: Path) -> Path | None:
    """The mask that the job was run with or, if it had none, the only one of the project's MaskCreate jobs."""
    name = _job_option(folder / "job.star", "fn_mask")
    if not name:
        made = sorted(folder.absolute().parent.parent.glob("MaskCreate/*/mask.mrc"))
        return _single_path(folder, "masks of MaskCreate", made, "--mask")
    mask = find_in_parent_folders(name, folder)
    if mask is None:
        raise InputError(f"{folder / 'job.star'}: its mask {name} is not there: give one by --mask")
    return mask


def _job_option(path: Path, option: str) -> str:
    """An option of a job.star; empty if there is none."""
    if not path.is_file():
        return ""
    for block in star_text.read_blocks(path).values():
        if "rlnJobOptionVariable" in block.columns and "rlnJobOptionValue" in block.columns:
            values = dict(zip(block["rlnJobOptionVariable"], block["rlnJobOptionValue"], strict=True))
            return str(values.get(option, "")).strip('"')
    return ""


def _single_path(folder: Path, what: str, paths: list[Path], how: str = "") -> Path | None:
    """The one of them, None of none. Raises InputError naming them where there are several."""
    if len(paths) > 1:
        listed = ", ".join(str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths)
        raise InputError(f"{folder}: has several {what} ({listed}): {f'choose by {how}' if how else 'give one itself'}")
    return paths[0] if paths else None
