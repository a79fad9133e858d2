"""Particle tables from STAR to CryoSPARC and back, metadata alone: what the other side cannot say travels along.

A column of STAR without a CryoSPARC field travels as text in `star/<column>` (of the optics table in
`star_optics/<column>`); a field of CryoSPARC without a column travels as `lrwCs/<field>:<type>`. Both come back.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import StructuredArray
from lrcore.errors import InputError
from lrcore.imaging import rotations
from lrcore.io.cs_table import (
    CsSource,
    decode_text,
    finite_field,
    integer_field,
    micrograph_columns,
    with_columns,
)
from lrcore.io.row_groups import group_identical_rows
from lrcore.io.star_optics import GROUP, MAGNIFICATION, MICROSCOPE, NAME, PIXEL, SIZE, TILT, pixel_sizes
from lrcore.io.star_table import IMAGE, StarSource, float_column, integer_column, parse_image_names, relion_stack_name
from lrcore.units import DEGREE

Columns = dict[str, npt.NDArray[Any]]

ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
ORIGIN_A = ["rlnOriginXAngst", "rlnOriginYAngst"]
ORIGIN_PX = ["rlnOriginX", "rlnOriginY"]
HALF = "rlnRandomSubset"
PARTICLE_FIELDS = {
    "rlnDefocusU": ("ctf/df1_A", 1.0),
    "rlnDefocusV": ("ctf/df2_A", 1.0),
    "rlnDefocusAngle": ("ctf/df_angle_rad", DEGREE),
    "rlnPhaseShift": ("ctf/phase_shift_rad", DEGREE),
    "rlnCtfBfactor": ("ctf/bfactor", 1.0),
    "rlnCtfScalefactor": ("ctf/scale", 1.0),
}
"""Column → field and what the column is multiplied by."""
OPTICS_FIELDS = dict(zip(MICROSCOPE, ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast"), strict=True))
STAR, STAR_OPTICS, CS = "star/", "star_optics/", "lrwCs/"
MICROGRAPH, COORDINATES = "rlnMicrographName", ("rlnCoordinateX", "rlnCoordinateY")
LOCATION = (
    "location/micrograph_path",
    "location/micrograph_shape",
    "location/center_x_frac",
    "location/center_y_frac",
)
A_PER_MM = 1e7
POSE, SHIFT, SPLIT = "alignments3D/pose", "alignments3D/shift", "alignments3D/split"
ALIGNED_PIXEL = "alignments3D/psize_A"
TYPE = re.compile(r"^(?:(\d+(?:x\d+)*)\*)?([fiubS]\d+)$")


def star_to_cs(source: StarSource) -> StructuredArray:
    """The .cs table of a particle STAR file. Raises InputError naming the column or row that makes no sense."""
    path, table = source.path, source.table
    optics, rows = _optics_rows(source)
    index, names = parse_image_names(path, table)
    pixel = pixel_sizes(path, optics)[rows] if source.optics else pixel_sizes(path, table)
    columns: Columns = {
        "blob/path": np.char.encode(names.to_numpy(dtype=str), "utf-8"),
        "blob/idx": index.astype(np.uint32),
        "blob/psize_A": _as_float32(path, "blob/psize_A", pixel),
    }
    taken = {IMAGE, GROUP, PIXEL, SIZE, "rlnPixelSize", *TILT, *MAGNIFICATION, *OPTICS_FIELDS}
    if SIZE in optics.columns:
        columns["blob/shape"] = np.repeat(integer_column(path, optics, SIZE, 1)[rows, None], 2, axis=1).astype(
            np.uint32
        )
    columns |= _ctf_fields(source, optics, rows)
    taken |= set(PARTICLE_FIELDS)
    if "ctf/cs_mm" in columns and (columns["ctf/cs_mm"] == 0).any():
        taken -= set(TILT)  # without a spherical aberration, CryoSPARC has no length for a tilt
    back, used = _embedded_cs_fields(source)
    used |= _apply_edited_locations(source, back)
    aligned = back.get(ALIGNED_PIXEL, columns["blob/psize_A"])
    columns |= _alignment_fields(source, pixel, aligned)
    taken |= {*ANGLES, *ORIGIN_A, *ORIGIN_PX, HALF, *used}
    if GROUP in table.columns:
        columns["ctf/exp_group_id"] = integer_column(path, table, GROUP).astype(np.uint32)
    for prefix, block, at in ((STAR, table, None), (STAR_OPTICS, optics, rows)):
        for name in block.columns:
            if name not in taken and not (at is not None and source.optics is None):
                column = block[name].to_numpy(dtype=str)
                columns[prefix + name] = np.char.encode(column if at is None else column[at], "utf-8")
    # A path that is no longer that of the image is not what the table means: somebody has made new images.
    if "blob/path" in back and decode_text(back["blob/path"]) != names.tolist():
        del back["blob/path"]
    uid = back.pop("uid", source.uid)
    base = np.zeros(len(table), [("uid", "<u8")])
    base["uid"] = uid if len(np.unique(uid)) == len(uid) else source.uid
    return with_columns(base, columns | back)


def cs_to_star(source: CsSource, plain: bool = False) -> dict[str, pd.DataFrame]:
    """The optics and particles tables of a .cs, all text. Raises InputError if it names no images or their pixel.

    plain: without the columns lrwCs/..., of which RELION warns as unknown to it: then the way back loses them.
    """
    table, fields = source.table, source.fields
    for name in ("blob/path", "blob/idx", "blob/psize_A"):
        if name not in fields:
            raise InputError(f"{source.path}: no field {name}: give the .csg of the job, or its passthrough beside it")
    numbered = zip(
        (integer_field(source.path, table, "blob/idx") + 1).tolist(), decode_text(table["blob/path"]), strict=True
    )
    columns: dict[str, Any] = {IMAGE: [f"{index:06d}@{relion_stack_name(name)}" for index, name in numbered]}
    taken = {"blob/idx", "blob/psize_A"}
    for name, (field, factor) in PARTICLE_FIELDS.items():
        if field in fields:
            columns[name] = _decimals(table[field].astype(np.float64) / factor)
            taken.add(field)
    if {POSE, SHIFT} <= fields:
        pixel = finite_field(source, ALIGNED_PIXEL if ALIGNED_PIXEL in fields else "blob/psize_A").astype(np.float64)
        angles = rotations.to_euler(rotations.from_cryosparc(finite_field(source, POSE)))
        values = np.concatenate([angles, finite_field(source, SHIFT) * pixel[:, None]], axis=1)
        columns |= {name: _decimals(one) for name, one in zip([*ANGLES, *ORIGIN_A], values.T, strict=True)}
        taken |= {POSE, SHIFT}
    if SPLIT in fields:
        columns[HALF] = (integer_field(source.path, table, SPLIT) + 1).astype(str)
        taken.add(SPLIT)
    optics, group, used = _optics_and_groups(source.path, table, fields)
    columns[GROUP] = group.astype(str)
    taken |= used
    columns |= {
        name: text for name, text in micrograph_columns(source, table["uid"]).items() if STAR + name not in fields
    }
    taken |= _recomputable_fields(table, fields)
    for field in (name for name in table.dtype.names or () if name not in taken):
        column = table[field]
        if field.startswith(STAR):
            columns[field.removeprefix(STAR)] = decode_text(column)
        elif not (plain or field.startswith(STAR_OPTICS)):
            columns[f"{CS}{field}:{_type_name(column)}"] = _as_text(column)
    return {"optics": optics, "particles": pd.DataFrame(columns)}


def _recomputable_fields(table: StructuredArray, fields: set[str]) -> set[str]:
    """Fields that `star_to_cs` finds again by itself."""
    again = set() if (np.char.startswith(table["blob/path"], b">")).any() else {"blob/path"}
    if ALIGNED_PIXEL in fields and np.array_equal(table[ALIGNED_PIXEL], table["blob/psize_A"]):
        again.add(ALIGNED_PIXEL)
    return again | ({"uid"} if STAR_OPTICS + NAME in fields else set())


def _optics_rows(source: StarSource) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """The optics table and each particle's row of it; of RELION 3.0 the particles' own rows."""
    if source.optics is None:
        return source.table, np.arange(len(source.table))
    optics = source.blocks[source.optics]
    known = {number: row for row, number in enumerate(float_column(source.path, optics, GROUP))}
    rows = pd.Series(float_column(source.path, source.table, GROUP)).map(known)
    if rows.isna().any():
        row = int(np.argmax(rows.isna().to_numpy())) + 1
        raise InputError(f"{source.path}: row {row}: its optics group is not in data_optics: add it there")
    return optics, rows.to_numpy(dtype=np.int64)


def _ctf_fields(source: StarSource, optics: pd.DataFrame, rows: npt.NDArray[np.int64]) -> Columns:
    path, n = source.path, len(source.table)
    out: Columns = {}
    for name, field in OPTICS_FIELDS.items():
        if name in optics.columns:
            out[field] = _as_float32(path, field, float_column(path, optics, name)[rows])
    for name, (field, factor) in PARTICLE_FIELDS.items():
        if name in source.table.columns:
            out[field] = _as_float32(path, field, float_column(path, source.table, name) * factor)
    if set(TILT) <= set(optics.columns) and "ctf/cs_mm" in out:
        tilt = np.stack([float_column(path, optics, name)[rows] for name in TILT], axis=1)
        cs_mm = float_column(path, optics, MICROSCOPE[1])[rows, None]
        out["ctf/tilt_A"] = _as_float32(path, "ctf/tilt_A", np.sin(tilt * 1e-3) * cs_mm * A_PER_MM)
    if set(MAGNIFICATION) <= set(optics.columns):
        matrix = np.stack([float_column(path, optics, name)[rows] for name in MAGNIFICATION], axis=1)
        out["ctf/anisomag"] = _as_float32(path, "ctf/anisomag", matrix - np.array([1.0, 0.0, 0.0, 1.0])).reshape(n, 4)
    return out


def _alignment_fields(source: StarSource, pixel: npt.NDArray[Any], aligned: npt.NDArray[Any]) -> Columns:
    path, table = source.path, source.table
    have, out = set(table.columns), {}
    origin = next((names for names in (ORIGIN_A, ORIGIN_PX) if have.issuperset(names)), None)
    if have.issuperset(ANGLES) and origin is not None:
        angles = np.stack([float_column(path, table, name) for name in ANGLES], axis=1)
        shift = np.stack([float_column(path, table, name) for name in origin], axis=1)
        shift = shift if origin is ORIGIN_A else shift * pixel[:, None]
        out[POSE] = rotations.to_cryosparc(rotations.from_euler(angles)).astype(np.float32)
        out[SHIFT] = _as_float32(path, SHIFT, shift / aligned.astype(np.float64)[:, None])
        out[ALIGNED_PIXEL] = _as_float32(path, ALIGNED_PIXEL, aligned)
    if HALF in have:
        out[SPLIT] = (integer_column(path, table, HALF, 1) - 1).astype(np.uint32)
    return out


def _as_float32(path: Path, field: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Numbers (n, ...) as a .cs has them. Raises InputError naming the first row whose number it cannot hold."""
    with np.errstate(over="ignore"):
        out = values.astype(np.float32)
    bad = ~np.isfinite(out).reshape(len(out), -1).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{path}: row {row + 1}: {field} would be {values[row]}, which a .cs cannot hold: correct it")
    return out


def _optics_and_groups(
    path: Path, table: StructuredArray, fields: set[str]
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], set[str]]:
    """The optics table, each particle's group number, and the fields that the table says whole."""
    fields_of_group = ["blob/psize_A", "blob/shape", *OPTICS_FIELDS.values(), "ctf/tilt_A", "ctf/anisomag"]
    kept = [name for name in ["ctf/exp_group_id", *fields_of_group] if name in fields]
    travelled = [name for name in table.dtype.names or () if name.startswith(STAR_OPTICS)]
    codes = [pd.factorize(np.array(decode_text(table[name])))[0] for name in travelled]
    first, group = group_identical_rows([*(table[name] for name in kept), *codes])
    rows = table[first]
    number = np.arange(1, len(first) + 1)
    if STAR_OPTICS + NAME in fields and "ctf/exp_group_id" in fields:
        was = integer_field(path, table, "ctf/exp_group_id")[first]
        number = was if len(np.unique(was)) == len(was) else number
    columns: dict[str, Any] = {GROUP: number.astype(str)}
    if STAR_OPTICS + NAME not in fields:
        columns[NAME] = [f"opticsGroup{number}" for number in columns[GROUP]]
    columns |= {name: _as_text(rows[field]) for name, field in OPTICS_FIELDS.items() if field in fields}
    columns[PIXEL] = _as_text(rows["blob/psize_A"])
    if "blob/shape" in fields:
        columns[SIZE] = rows["blob/shape"][:, 1].astype(str)
    if {"ctf/tilt_A", "ctf/cs_mm"} <= fields:
        whole_turn = rows["ctf/cs_mm"].astype(np.float64)[:, None] * A_PER_MM
        lengths = rows["ctf/tilt_A"].astype(np.float64)
        sine = np.divide(lengths, whole_turn, out=np.zeros_like(lengths), where=whole_turn != 0)
        tilt = np.arcsin(np.clip(sine, -1, 1)) * 1e3
        columns |= {name: _decimals(one) for name, one in zip(TILT, tilt.T, strict=True)}
    if "ctf/anisomag" in fields:
        matrix = rows["ctf/anisomag"].astype(np.float64) + np.array([1.0, 0.0, 0.0, 1.0])
        columns |= {name: _decimals(one) for name, one in zip(MAGNIFICATION, matrix.T, strict=True)}
    columns |= {name.removeprefix(STAR_OPTICS): decode_text(rows[name]) for name in travelled}
    said = set(fields_of_group) - ({"ctf/tilt_A"} if "ctf/cs_mm" not in fields else set())
    said |= {"ctf/exp_group_id"} if STAR_OPTICS + NAME in fields else set()
    return pd.DataFrame(columns), number[group], said


def _embedded_cs_fields(source: StarSource) -> tuple[Columns, set[str]]:
    """The fields that travelled with a STAR file, by name, and the columns that they are in."""
    out: Columns = {}
    used = set()
    for name in map(str, source.table.columns):
        field, _, kind = name.removeprefix(CS).rpartition(":")
        shape_type = TYPE.match(kind)
        if name.startswith(CS) and field and shape_type:
            out[field] = _from_text(source, name, shape_type)
            used.add(name)
    return out, used


def _apply_edited_locations(source: StarSource, back: Columns) -> set[str]:
    """The columns that say what fields that travelled say, too: where they say other than these, they have been edited.

    Such fields are changed in `back`.
    """
    path, table, said = source.path, source.table, set()
    if MICROGRAPH in table.columns and LOCATION[0] in back:
        said.add(MICROGRAPH)
        pairs = zip(table[MICROGRAPH], decode_text(back[LOCATION[0]]), back[LOCATION[0]].tolist(), strict=True)
        back[LOCATION[0]] = np.array([was if name == known else name.encode() for name, known, was in pairs])
    if {*COORDINATES} <= set(table.columns) and {*LOCATION[1:]} <= back.keys():
        said |= {*COORDINATES}
        shape, x, y = (back[name] for name in LOCATION[1:])
        for name, column, size, up in ((LOCATION[2], x, shape[:, 1], False), (LOCATION[3], y, shape[:, 0], True)):
            pixel = float_column(path, table, COORDINATES[int(up)])
            edited = np.abs(pixel - (1.0 - column if up else column) * size) > 1e-5
            part = pixel / np.maximum(size, 1)
            back[name] = np.where(edited, 1.0 - part if up else part, column).astype(column.dtype)
    return said


def _type_name(column: npt.NDArray[Any]) -> str:
    shape = "x".join(str(size) for size in column.shape[1:])
    kind = "S1" if column.dtype.kind in "US" else column.dtype.str[1:]
    return f"{shape}*{kind}" if shape else kind


def _as_text(column: npt.NDArray[Any]) -> Any:
    """(n, …) as n texts by which each value is read back as it was; several as [a,b,…]."""
    if column.dtype.kind in "SU":
        return [(one.decode() if isinstance(one, bytes) else str(one)) or "None" for one in column.tolist()]
    flat = column.reshape(len(column), -1).astype(str)
    return flat[:, 0] if column.ndim == 1 else ["[" + ",".join(row) + "]" for row in flat.tolist()]


def _from_text(source: StarSource, name: str, kind: re.Match[str]) -> npt.NDArray[Any]:
    values = source.table[name].astype(str).tolist()
    if kind[2].startswith("S"):
        return np.array([b"" if value == "None" else value.encode() for value in values])
    shape = tuple(int(size) for size in kind[1].split("x")) if kind[1] else ()
    dtype = np.dtype(kind[2])
    try:
        rows = [value.strip("[]").split(",") for value in values]
        number = float if dtype.kind == "f" else int
        return np.array([[number(one) for one in row] for row in rows], dtype).reshape(len(values), *shape)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{source.path}: {name}: {error}: leave the columns {CS}... as they were") from error


def _decimals(values: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    return np.char.mod("%.9g", values)
