"""Describe a particle table, map or stack: its contents, and what it lacks for a local refinement."""

from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.io import cs_particles, cs_table, mrc_maps, star_optics, star_particles, star_table
from lrcore.io.file_type import file_type
from lrcore.io.image_stacks import StackReader, require_complete_stack
from lrcore.records import ImageSource, Optics

Facts = dict[str, object]

MAX_IMAGES = 200
"""Images of a stack that are read for its statistics, evenly spaced."""


def describe_file(path: str | Path) -> Facts:
    """Describe a particle table, map or stack.

    Parameters
    ----------
    path : .star, .cs, .csg or MRC file

    Returns
    -------
    dict
        Facts that can be written as JSON; "missing" lists what a local refinement would need, where that applies.

    Raises
    ------
    InputError
        If the file is unreadable.
    """
    path = Path(path)
    found = file_type(path)
    if found == "STAR":
        return _star_facts(star_table.read_source(path))
    if found == "CryoSPARC":
        source = cs_table.read_source(path)
        return _particle_group_facts(source) if cs_particles.has_particles(source) else _other_group_facts(source)
    if not found:
        raise InputError(f"{path}: is neither a particle file (.star, .cs or .csg) nor a map or stack (MRC)")
    header = mrc_maps.read_header(path)
    is_stack = path.suffix.lower() == ".mrcs" or len(set(header.shape)) > 1
    return _stack_facts(header) if is_stack else _map_facts(header)


def _star_facts(source: star_table.StarSource) -> Facts:
    path, table = source.path, source.table
    missing = star_particles.missing_columns(source)
    index, names = star_table.parse_image_names(path, table)
    facts: Facts = {
        "file": str(path),
        "kind": "particles, RELION 3.0" if source.optics is None else "particles, RELION 3.1 or later",
        "rows": len(index),
        "stacks": int(names.nunique()),
        "poses": "poses" not in missing,
        "half_sets": _counts(table[star_particles.HALF].tolist()) if star_particles.HALF in table.columns else None,
        "defocus_A": None,
    }
    problems = [f"{purpose}: no column {', '.join(names)}" for purpose, names in missing.items()]
    problems += _single_half_set_problem(facts)
    try:
        if "CTF" not in missing:
            facts["defocus_A"] = _range(
                *(star_table.float_column(path, table, name) for name in star_particles.DEFOCUS[:2])
            )
        facts |= _optics_facts(
            star_optics.read_groups(source, star_particles.box_reader(star_particles.read_images(source)))[1]
        )
    except InputError as error:
        problems.append(str(error))
    return facts | {"missing": problems}


def _particle_group_facts(source: cs_table.CsSource) -> Facts:
    slot = cs_particles.alignment_slot(source)
    missing = cs_particles.missing_slots(source)
    split = f"{slot}/split"
    facts: Facts = {
        "file": str(source.path),
        "kind": "particles, CryoSPARC",
        "rows": len(source.table),
        "stacks": len(np.unique(source.table["blob/path"])) if "blob/path" in source.fields else None,
        "poses": slot is not None,
        "half_sets": _counts((source.table[split].reshape(len(source.table), -1)[:, 0] + 1).tolist())
        if split in source.fields
        else None,
        "defocus_A": _range(source.table["ctf/df1_A"], source.table["ctf/df2_A"]) if "ctf" not in missing else None,
    }
    problems = [f"slot {slot}: {file} does not exist" for slot, file in source.missing_files.items()]
    problems += [
        f"{slot}: no field {', '.join(names)}" for slot, names in missing.items() if slot not in source.missing_files
    ]
    problems += _single_half_set_problem(facts)
    try:
        if not {"blob", "ctf"} & missing.keys():
            facts |= _optics_facts(cs_particles.read_groups(source)[1])
    except InputError as error:
        problems.append(str(error))
    return facts | {"missing": problems}


def _other_group_facts(source: cs_table.CsSource) -> Facts:
    paths = {slot: f"{slot}/path" for slot in source.slots}
    return {
        "file": str(source.path),
        "kind": "group, CryoSPARC",
        "slots": {
            slot: cs_table.decode_text(source.table[name])[0] if name in source.fields else None
            for slot, name in paths.items()
        },
        "missing": [f"slot {slot}: {file} does not exist" for slot, file in source.missing_files.items()],
    }


def _optics_facts(optics: tuple[Optics, ...]) -> Facts:
    return {
        "box": sorted({group.box for group in optics}),
        "pixel_size_A": sorted({group.pixel_size_A for group in optics}),
        "optics_groups": [
            {
                "name": group.name,
                "voltage_kV": group.voltage_kV,
                "cs_mm": group.cs_mm,
                "amplitude_contrast": group.amplitude_contrast,
                "aberrations": _aberrations(group),
            }
            for group in optics
        ],
    }


def _single_half_set_problem(facts: Facts) -> list[str]:
    halves = cast(dict[str, int] | None, facts["half_sets"])
    return [] if halves is None or len(halves) > 1 else [f"half sets: all particles are in set {next(iter(halves))}"]


def _aberrations(optics: Optics) -> list[str]:
    applied = {
        "beam tilt": any(optics.beam_tilt_mrad),
        "odd Zernike": any(optics.odd_zernike),
        "even Zernike": any(optics.even_zernike),
        "anisotropic magnification": optics.mag_matrix != (1.0, 0.0, 0.0, 1.0),
        "CTF premultiplied": optics.ctf_premultiplied,
    }
    return [name for name, present in applied.items() if present]


def _map_facts(header: mrc_maps.MrcHeader) -> Facts:
    # A map whose header has no voxel size must still be described, so any value will do.
    data = mrc_maps.read_volume(header.path, apix=header.voxel_A[0] or 1.0).data
    facts = _header_facts(header, "map") | _statistics(data)
    low, high = cast(float, facts["min"]), cast(float, facts["max"])
    mask = low >= 0 and 0 < high <= 1
    return facts | {"looks_like_mask": mask, "binary_mask": mask and bool(np.isin(data, (0, 1)).all())}


def _stack_facts(header: mrc_maps.MrcHeader) -> Facts:
    count, rows, columns = header.shape
    facts = _header_facts(header, "stack") | {"images": count}
    if rows != columns:
        return facts | {"missing": [f"images of {columns} x {rows} px are not square"]}
    require_complete_stack(header)
    index = np.unique(np.linspace(0, count - 1, min(count, MAX_IMAGES)).astype(np.int64))
    ones = np.ones(len(index), np.float32)
    images = ImageSource((header.path,), np.zeros(len(index), np.int32), index, ones)
    with StackReader(images, rows) as reader:
        data = reader.read(np.arange(len(index)))
    return facts | _statistics(data) | {"statistics_of_images": len(index)}


def _header_facts(header: mrc_maps.MrcHeader, kind: str) -> Facts:
    z, y, x = header.shape
    return {
        "file": str(header.path),
        "kind": kind,
        "shape_zyx": [z, y, x],
        "mode": header.mode,
        "sample": header.dtype.name,
        "voxel_size_A": list(header.voxel_A) if all(header.voxel_A[:2]) else None,
        "origin_A": list(header.origin_A),
    }


def _statistics(data: npt.NDArray[np.float32]) -> Facts:
    mean = float(data.mean(dtype=np.float64))
    variance = float(np.mean([np.square(section.astype(np.float64) - mean).mean() for section in data]))
    return {"min": float(data.min()), "max": float(data.max()), "mean": mean, "std": variance**0.5}


def _range(*columns: npt.NDArray[np.floating]) -> list[float]:
    return [float(min(column.min() for column in columns)), float(max(column.max() for column in columns))]


def _counts(values: list[object]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(str(value) for value in values).items())}
