"""Read CryoSPARC particles (.cs, .csg) and half maps, and write particles back with new poses."""

import datetime
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from lrcore.arrays import Float64, StructuredArray
from lrcore.errors import InputError
from lrcore.imaging import rotations
from lrcore.io import cs_aberrations
from lrcore.io.checks import check_optics, require_single_box_and_pixel_size
from lrcore.io.cs_aberrations import Microscope, ZernikeAberrations
from lrcore.io.cs_table import (
    CsSource,
    decode_text,
    find_rows,
    finite_field,
    known_scale,
    missing_files_error,
    read_source,
    with_columns,
)
from lrcore.io.paths import (
    atomic_write,
    find_in_parent_folders,
    refuse_to_overwrite_inputs,
    require_stacks,
    stack_name_from_folder,
)
from lrcore.io.row_groups import factorize_text, group_identical_rows
from lrcore.records import ImageSource, Optics, Particles, Poses

Columns = dict[str, npt.NDArray[Any]]

ALIGNMENTS, MULTI = "alignments3D", "alignments3D_multi"
REQUIRED_FIELDS = {
    "blob": ["blob/path", "blob/idx", "blob/shape", "blob/psize_A"],
    "ctf": ["ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad"],
}
GROUP_FIELDS = ["ctf/exp_group_id", "ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A", "blob/shape"]
GROUP_ABERRATIONS = [*cs_aberrations.FIELDS, "ctf/anisomag"]
CARRIED_OPTICS_FIELDS = {
    "odd_zernike": "star_optics/rlnOddZernike",
    "even_zernike": "star_optics/rlnEvenZernike",
    "ctf_premultiplied": "star_optics/rlnCtfDataAreCtfPremultiplied",
}
"""Attributes of `Optics` without a CryoSPARC field → text field that carries them in a file converted from STAR."""
SPLIT_HINT = "run a 3D refinement with half sets first, or split them here (--resplit)"


def read_particles(path: str | Path, images_dir: Path | None = None, split: bool = True) -> Particles:
    """Read particles with poses, CTF and half sets from a .csg, or from a .cs and its passthrough file.

    Aberrations become beam tilt and Zernike coefficients (`lrcore.io.cs_aberrations`). `scale` is ctf/scale times the
    alpha of the alignment.

    Parameters
    ----------
    path : .cs or .csg file
    images_dir, split : see `lrcore.io.read_particles`, which also says what is raised
    """
    source = read_source(Path(path))
    path, table = source.path, source.table
    _require_slots(source)
    slot = alignment_slot(source)
    if slot is None:
        raise InputError(f"{path}: no {ALIGNMENTS}/pose: the particles have no 3D poses: run a 3D refinement first")
    half = _halves(source, slot) if split else np.ones(len(table), np.int8)
    group, optics = read_groups(source)
    optics = require_single_box_and_pixel_size(path, optics)
    return Particles(
        uid=table["uid"].copy(),
        half=half,
        group=group,
        optics=optics,
        poses=_poses(source, slot),
        defocus_A=np.stack([_numbers(source, f"ctf/{name}") for name in ("df1_A", "df2_A")], axis=1),
        defocus_angle_rad=_numbers(source, "ctf/df_angle_rad"),
        phase_shift_rad=_numbers(source, "ctf/phase_shift_rad", 0.0),
        bfactor_A2=_numbers(source, "ctf/bfactor", 0.0),
        scale=_numbers(source, "ctf/scale", 1.0) * _alpha(source, slot),
        images=_images(source, images_dir),
        path=path,
        source=source,
    )


def alignment_slot(source: CsSource) -> str | None:
    """Return the slot with the poses: that of one class, else that of several classes, else None."""
    return next((slot for slot in (ALIGNMENTS, MULTI) if f"{slot}/pose" in source.fields), None)


def has_particles(source: CsSource) -> bool:
    """Return whether the file describes particles (not volumes or anything else)."""
    return bool({*REQUIRED_FIELDS, ALIGNMENTS, MULTI} & {*source.slots, *source.missing_files})


def missing_slots(source: CsSource) -> dict[str, list[str]]:
    """Return the fields that a local refinement needs and the table lacks, by slot."""
    missing = {slot: [name for name in names if name not in source.fields] for slot, names in REQUIRED_FIELDS.items()}
    slot = alignment_slot(source)
    missing[ALIGNMENTS] = [f"{ALIGNMENTS}/pose", f"{ALIGNMENTS}/shift"] if slot is None else []
    if slot is None or f"{slot}/split" not in source.fields:
        missing["half sets"] = [f"{slot or ALIGNMENTS}/split"]
    return {slot: names for slot, names in missing.items() if names}


def read_groups(source: CsSource) -> tuple[npt.NDArray[np.int32], tuple[Optics, ...]]:
    """Return the optics group (n,) of every row and the groups: rows with the same exposure group and constants.

    anisomag is M − I. Raises InputError naming the group of an impossible value.
    """
    for name in _group_fields(source):
        finite_field(source, name)
    first, group, names = group_rows(source)
    optics = tuple(_optics(source, int(row), name) for row, name in zip(first, names, strict=True))
    return group.astype(np.int32), optics


def group_rows(source: CsSource) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """Return the first row (m,) of each optics group, the group (n,) of every row, and the names (m,), unchecked."""
    carried = [name for name in CARRIED_OPTICS_FIELDS.values() if name in source.fields]
    codes = [factorize_text(source.table[name])[1] for name in carried]
    columns = [*(source.table[name] for name in _group_fields(source)), *codes]
    first, group = group_identical_rows(columns or [np.zeros(len(source.table))])
    names: list[str] = []
    for row in first:
        number = _cell(source.table, "ctf/exp_group_id", int(row), 0)
        name = f"exp_group_{number:.0f}"
        names.append(name if name not in names else f"{name}_{len(names)}")
    return first, group, names


def _group_fields(source: CsSource) -> list[str]:
    return [name for name in [*GROUP_FIELDS, *GROUP_ABERRATIONS] if name in source.fields]


def read_half_maps(path: str | Path) -> tuple[Path, Path]:
    """Find the two half maps that a volume .csg or .cs names.

    Parameters
    ----------
    path : volume group of a refinement (.csg) or its .cs

    Returns
    -------
    tuple of Path
        Half map A and half map B.

    Raises
    ------
    InputError
        If a slot or a map is missing; names it.
    """
    source = read_source(Path(path))
    path = source.path
    half_maps = []
    for slot in ("map_half_A", "map_half_B"):
        if slot in source.missing_files:
            raise missing_files_error(path, {slot: source.missing_files[slot]})
        if f"{slot}/path" not in source.fields:
            raise InputError(f"{path}: no slot {slot}: give the volume group of a refinement, or two half maps")
        name = decode_text(source.table[f"{slot}/path"])[0]
        volume = find_in_parent_folders(name, path.parent)
        if volume is None:
            raise InputError(f"{path}: map {name} of slot {slot} does not exist: give the two half maps instead")
        half_maps.append(volume)
    return half_maps[0], half_maps[1]


def write_particles(path: str | Path, particles: Particles, poses: Poses, extra: Columns | None = None) -> None:
    """Write a .cs with new poses, and a .csg in the same folder.

    CryoSPARC particles keep their uid and every other field; shifts are in pixels of their alignments3D/psize_A. If
    `scale` is not that of the file, alignments3D/alpha gets the difference.
    Particles of another format get the standard fields from the records. The path of a stack is kept if it can still
    be found from the folder of the new file or one above it (the project folder); otherwise it is written relative to
    the new file, after `>`.

    Parameters
    ----------
    path : .cs file to write
    particles : n particles
    poses : their n new poses
    extra : column name → (n,) values of additional columns; lrwName is written as lrw/Name

    Raises
    ------
    InputError
        If the file is the input itself or cannot be written.
    """
    path = Path(path)
    group = path.with_suffix(".csg")
    if isinstance(particles.source, CsSource):
        source = particles.source
        for file in (path, group):
            refuse_to_overwrite_inputs(file, source.files)
        table = source.table[find_rows(source.table["uid"], particles.uid)]
        slots, version = dict(source.slots), source.version
    else:
        table, slots, version = _table_from_records(path, particles), {}, ""
    fields = set(table.dtype.names or ())
    slots |= {slot: f"particle.{slot}" for slot in ("blob", "ctf", ALIGNMENTS)}
    columns = _pose_columns(table, particles, poses) | _alpha_column(table, particles)
    columns["blob/path"] = _blob_paths(path.parent, particles, table["blob/path"] if "blob/path" in fields else None)
    for name, column in (extra or {}).items():
        columns[f"lrw/{name.removeprefix('lrw')}"] = np.asarray(column)
    write_table(path, with_columns(table, columns), slots, version)


def write_table(path: Path, table: StructuredArray, slots: dict[str, str], version: str = "") -> None:
    """Write a .cs and, in the same folder, the .csg that lists its slots with their types.

    Parameters
    ----------
    path : .cs file to write
    table : (n,) structured array with a field uid
    slots : slot → its type, e.g. blob → particle.blob
    version : CryoSPARC version to state

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    group = path.with_suffix(".csg")
    with atomic_write(path) as temporary, atomic_write(group) as other:
        with temporary.open("wb") as file:
            np.save(file, table, allow_pickle=False)
        other.write_text(_group_text(path.name, len(table), slots, version), encoding="utf-8")


def slot_types(table: StructuredArray) -> dict[str, str]:
    """Return the type of every particle slot of a table; columns unknown to CryoSPARC (lrw, star) have no slot.

    Parameters
    ----------
    table : (n,) structured array with fields named slot/name

    Returns
    -------
    dict
        Slot → type, as a .csg lists it.
    """
    names = dict.fromkeys(name.partition("/")[0] for name in table.dtype.names or () if "/" in name)
    return {name: f"particle.{name}" for name in names if not name.startswith(("lrw", "star"))}


def _require_slots(source: CsSource) -> None:
    if not has_particles(source):
        raise InputError(
            f"{source.path}: contains no particles, only {', '.join(source.slots)}: give the particle file"
        )
    needed = {slot: file for slot, file in source.missing_files.items() if slot in (*REQUIRED_FIELDS, ALIGNMENTS)}
    if needed:
        raise missing_files_error(source.path, needed)
    for slot, names in REQUIRED_FIELDS.items():
        missing = [name for name in names if name not in source.fields]
        if missing:
            raise InputError(
                f"{source.path}: no field {', '.join(missing)}, and no passthrough file in its folder has slot {slot}: "
                "give the .csg of the job, or copy its passthrough .cs into that folder"
            )
    for slot, file in source.missing_files.items():
        warnings.warn(f"{source.path}: slot {slot}: {file} does not exist: exports will lack this slot", stacklevel=3)


def _numbers(source: CsSource, name: str, default: float | None = None) -> Float64:
    """Return a field as float64. Raises InputError naming the row of a value that is not finite."""
    if default is not None and name not in source.fields:
        return np.full(len(source.table), default)
    return finite_field(source, name).astype(np.float64)


def _halves(source: CsSource, slot: str) -> npt.NDArray[np.int8]:
    name = f"{slot}/split"
    if name not in source.fields:
        raise InputError(f"{source.path}: no {name}: the particles have no half sets: {SPLIT_HINT}")
    split = _values_of_best_class(source, slot, "split", 0)
    if not np.isin(split, (0, 1)).all() or len(np.unique(split)) < 2:
        raise InputError(
            f"{source.path}: {name} holds {sorted(set(split.tolist()))[:4]} instead of 0 and 1: {SPLIT_HINT}"
        )
    return (split + 1).astype(np.int8)


def _poses(source: CsSource, slot: str) -> Poses:
    vectors = _values_of_best_class(source, slot, "pose", 1)
    shift = _values_of_best_class(source, slot, "shift", 1)
    psize = f"{slot}/psize_A" in source.fields
    pixel = _values_of_best_class(source, slot, "psize_A", 0) if psize else _numbers(source, "blob/psize_A")
    return Poses(rotations.from_cryosparc(vectors), shift * _shortest_decimals(pixel)[:, None])


def _values_of_best_class(source: CsSource, slot: str, name: str, ndim: int) -> Float64:
    """Return an alignment field with `ndim` axes; of several classes, the values of the most probable one."""
    values = _numbers(source, f"{slot}/{name}")
    if values.ndim == ndim + 1:
        return values
    best = _numbers(source, f"{slot}/class_posterior").reshape(len(values), -1).argmax(axis=1)
    if values.ndim != ndim + 2 or best.max() >= values.shape[1]:
        raise InputError(
            f"{source.path}: {slot}/{name} and class_posterior differ in their number of classes: export it again"
        )
    return values[np.arange(len(values)), best]


def _shortest_decimals(values: Float64) -> Float64:
    """Return the shortest decimals that equal these float32 values: 2.4, not 2.4000000953674316."""
    distinct, inverse = np.unique(values.astype(np.float32), return_inverse=True)
    return np.array([float(str(value)) for value in distinct])[inverse.reshape(values.shape)]


def _images(source: CsSource, images_dir: Path | None) -> ImageSource:
    table = source.table
    names, stack = factorize_text(table["blob/path"])
    return ImageSource(
        stacks=require_stacks(source.path, decode_text(names), stack, images_dir, "the CryoSPARC project folder"),
        stack=stack.astype(np.int32),
        index=table["blob/idx"].astype(np.int64),
        sign=_numbers(source, "blob/sign", 1.0).astype(np.float32),
    )


def _cell(table: StructuredArray, name: str, row: int, default: float) -> float:
    return float(str(table[name][row])) if name in (table.dtype.names or ()) else default


def _vector(table: StructuredArray, name: str, row: int, size: int) -> list[float]:
    return [float(str(value)) for value in table[name][row]] if name in (table.dtype.names or ()) else [0.0] * size


def _optics(source: CsSource, row: int, name: str) -> Optics:
    table = source.table
    height, width = (int(size) for size in table["blob/shape"][row])
    if height != width:
        raise InputError(f"{source.path}: row {row + 1}: blob/shape is {height} x {width}: images must be square")
    microscope = Microscope(_cell(table, "ctf/accel_kv", row, 0), _cell(table, "ctf/cs_mm", row, 0))
    magnification = _vector(table, "ctf/anisomag", row, 4)
    optics = check_optics(
        source.path,
        Optics(
            name=name,
            voltage_kV=microscope.voltage_kV,
            cs_mm=microscope.cs_mm,
            amplitude_contrast=_cell(table, "ctf/amp_contrast", row, 0),
            pixel_size_A=_cell(table, "blob/psize_A", row, 0),
            box=width,
            mag_matrix=(1 + magnification[0], magnification[1], magnification[2], 1 + magnification[3]),
            ctf_premultiplied=_carried_list(source, "ctf_premultiplied", row) == (1.0,),
        ),
    )
    found = _aberrations(source, row, microscope)
    return replace(
        optics,
        beam_tilt_mrad=found.beam_tilt_mrad,
        odd_zernike=found.odd_zernike,
        even_zernike=found.even_zernike,
    )


def _carried_list(source: CsSource, name: str, row: int) -> tuple[float, ...]:
    field = CARRIED_OPTICS_FIELDS[name]
    text = decode_text(source.table[field][row : row + 1])[0].strip("[] ") if field in source.fields else ""
    try:
        return tuple(float(value) for value in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(
            f"{source.path}: row {row + 1}: {field} is '{text}', not a list of numbers: restore the original value"
        ) from error


def _aberrations(source: CsSource, row: int, microscope: Microscope) -> ZernikeAberrations:
    """Return the aberrations of a row: those that a file converted from STAR carries, and those of the fields."""
    known = ZernikeAberrations(
        odd_zernike=_carried_list(source, "odd_zernike", row), even_zernike=_carried_list(source, "even_zernike", row)
    )
    fields = {
        name: _vector(source.table, name, row, size)
        for name, size in cs_aberrations.FIELDS.items()
        if name in source.fields
    }
    lengths = cs_aberrations.lengths_from_fields(fields, known, microscope)
    cs_aberrations.require_possible_tilt(source.path, lengths, microscope)
    return cs_aberrations.zernike_from_lengths(lengths, microscope, known)


def _alpha(source: CsSource, slot: str) -> Float64:
    """Return the scale (n,) that CryoSPARC has found for each image; 1 where there is none."""
    name = f"{slot}/alpha"
    if name not in source.fields:
        return np.ones(len(source.table))
    alpha = _values_of_best_class(source, slot, "alpha", 0)
    bad = int((alpha <= 0).sum())
    if bad:
        row = int(np.argmax(alpha <= 0)) + 1
        warnings.warn(
            f"{source.path}: {name} is not above 0 for {bad} of {len(alpha)} particles (first: row {row}): their scale "
            "is taken as 1",
            stacklevel=4,
        )
    return known_scale(alpha)


def _pose_columns(table: StructuredArray, particles: Particles, poses: Poses) -> Columns:
    fields = table.dtype.names or ()
    psize = f"{ALIGNMENTS}/psize_A"
    pixel = _shortest_decimals(table[psize]) if psize in fields else np.full(len(particles), particles.pixel_size_A)
    columns: Columns = {
        f"{ALIGNMENTS}/pose": rotations.to_cryosparc(poses.rotation).astype(np.float32),
        f"{ALIGNMENTS}/shift": (poses.origin_A / pixel[:, None]).astype(np.float32),
    }
    if psize not in fields:
        columns[psize] = pixel.astype(np.float32)
    if f"{ALIGNMENTS}/split" not in fields:
        columns[f"{ALIGNMENTS}/split"] = (particles.half - 1).astype(np.uint32)
    return columns


def _alpha_column(table: StructuredArray, particles: Particles) -> Columns:
    """Return alignments3D/alpha if the scale of the particles is not that of the table, which is alpha · ctf/scale."""
    name, fields = f"{ALIGNMENTS}/alpha", table.dtype.names or ()
    scale = table["ctf/scale"].astype(np.float64) if "ctf/scale" in fields else np.ones(len(table))
    known = scale * known_scale(table[name]) if name in fields else scale
    if np.allclose(particles.scale, known, rtol=1e-6, atol=0.0):
        return {}
    return {name: np.divide(particles.scale, scale, out=np.ones_like(scale), where=scale != 0).astype(np.float32)}


def _blob_paths(folder: Path, particles: Particles, original: npt.NDArray[Any] | None) -> npt.NDArray[np.bytes_]:
    """Return (n,) paths of the stacks as seen from `folder`; an original path that is still valid is kept as it is."""
    images = particles.images
    names = decode_text(original) if original is not None else None
    paths: dict[int, bytes] = {}
    for number, row in zip(*np.unique(images.stack, return_index=True), strict=True):
        name = names[row] if names is not None else ""
        new_name = stack_name_from_folder(folder, images.stacks[number], name)
        kept = original is not None and new_name == name
        paths[int(number)] = _bytes(original[row]) if kept and original is not None else b">" + os.fsencode(new_name)
    return np.array([paths[number] for number in images.stack.tolist()])


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def _table_from_records(path: Path, particles: Particles) -> StructuredArray:
    """Build the standard CryoSPARC fields, except paths and poses, of particles read from another format."""
    terms = {
        one.name: cs_aberrations.inexpressible_terms(ZernikeAberrations.of_optics(one)) for one in particles.optics
    }
    lost = dict.fromkeys(term for listed in terms.values() for term in listed)
    if lost:
        warnings.warn(
            f"{path}: the .cs format has no field for the Zernike polynomials {', '.join(lost)} of "
            f"{', '.join(name for name, listed in terms.items() if listed)}: they are not written",
            stacklevel=3,
        )
    if any(group.ctf_premultiplied for group in particles.optics):
        warnings.warn(
            f"{path}: the .cs format cannot mark images as CTF-premultiplied: the mark is not written", stacklevel=3
        )
    optics = [particles.optics[number] for number in particles.group]
    table = np.zeros(len(particles), [("uid", "<u8")])
    table["uid"] = particles.uid
    return with_columns(table, _blob_columns(particles) | _ctf_columns(particles, optics))


def _blob_columns(particles: Particles) -> Columns:
    n = len(particles)
    return {
        "blob/idx": particles.images.index.astype(np.uint32),
        "blob/shape": np.full((n, 2), particles.box, np.uint32),
        "blob/psize_A": np.full(n, particles.pixel_size_A, np.float32),
        "blob/sign": particles.images.sign.astype(np.float32),
    }


def _ctf_columns(particles: Particles, optics: list[Optics]) -> Columns:
    n = len(particles)
    lengths = [
        cs_aberrations.lengths_from_zernike(ZernikeAberrations.of_optics(one), Microscope.of_optics(one))
        for one in particles.optics
    ]
    columns: Columns = {
        "accel_kv": np.array([one.voltage_kV for one in optics]),
        "cs_mm": np.array([one.cs_mm for one in optics]),
        "amp_contrast": np.array([one.amplitude_contrast for one in optics]),
        "df1_A": particles.defocus_A[:, 0],
        "df2_A": particles.defocus_A[:, 1],
        "df_angle_rad": particles.defocus_angle_rad,
        "phase_shift_rad": particles.phase_shift_rad,
        "scale": particles.scale,
        "scale_const": np.zeros(n),
        **{
            field: np.array([getattr(one, field) for one in lengths])[particles.group] for field in cs_aberrations.NAMES
        },
        "anisomag": np.array([one.mag_matrix for one in optics]) - [1.0, 0.0, 0.0, 1.0],
        "bfactor": particles.bfactor_A2,
    }
    kinds: Columns = {
        "ctf/type": np.full(n, b"imported"),
        "ctf/exp_group_id": particles.group.astype(np.uint32),
    }
    return kinds | {f"ctf/{name}": column.astype(np.float32) for name, column in columns.items()}


def _group_text(metafile: str, rows: int, slots: dict[str, str], version: str) -> str:
    results = {slot: {"metafile": f">{metafile}", "num_items": rows, "type": kind} for slot, kind in slots.items()}
    return yaml.safe_dump(
        {
            "created": datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
            "group": {"description": "", "name": "particles", "title": "Refined particles", "type": "particle"},
            "results": results,
            "version": version or "v4.0.0",
        }
    )
