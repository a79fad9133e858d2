"""Convert particle tables from STAR to CryoSPARC and back (metadata only), without loss.

A STAR column without a CryoSPARC field is carried as text in `star/<column>` (one of the optics table in
`star_optics/<column>`); a CryoSPARC field without a STAR column is carried as `lrwCs/<field>:<type>`. The conversion
back restores both.
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
from lrcore.io.cs_table import CsSource, decode_text, finite_field, integer_field, micrograph_columns, with_columns
from lrcore.io.row_groups import group_identical_rows
from lrcore.io.star_optics import GROUP, MAGNIFICATION, MICROSCOPE, NAME, PIXEL, SIZE, TILT, pixel_sizes
from lrcore.io.star_particles import origin_columns, read_poses
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
"""STAR column → CryoSPARC field and the factor that converts the column."""
OPTICS_FIELDS = dict(zip(MICROSCOPE, ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast"), strict=True))
STAR_PREFIX, STAR_OPTICS, CS_PREFIX = "star/", "star_optics/", "lrwCs/"
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
    """Convert a particle STAR file into a .cs table.

    Parameters
    ----------
    source : particle STAR file of n rows, as read

    Returns
    -------
    (n,) structured array
        Fields named slot/name.

    Raises
    ------
    InputError
        If a value is invalid or does not fit a .cs; names the column and row.
    """
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
        taken -= set(TILT)  # CryoSPARC stores a tilt as a length that is proportional to Cs: none at Cs = 0
    carried, used = _embedded_cs_fields(source)
    used |= _apply_edited_locations(source, carried)
    aligned = carried.get(ALIGNED_PIXEL, columns["blob/psize_A"])
    columns |= _alignment_fields(source, pixel, aligned)
    taken |= {*ANGLES, *ORIGIN_A, *ORIGIN_PX, HALF, *used}
    if GROUP in table.columns:
        columns["ctf/exp_group_id"] = integer_column(path, table, GROUP).astype(np.uint32)
    for prefix, block, group_rows in ((STAR_PREFIX, table, None), (STAR_OPTICS, optics, rows)):
        for name in block.columns:
            if name not in taken and not (group_rows is not None and source.optics is None):
                column = block[name].to_numpy(dtype=str)
                columns[prefix + name] = np.char.encode(column if group_rows is None else column[group_rows], "utf-8")
    # If the carried path differs from the image name, the images were replaced after the conversion: it is outdated.
    if "blob/path" in carried and decode_text(carried["blob/path"]) != names.tolist():
        del carried["blob/path"]
    uid = carried.pop("uid", source.uid)
    base = np.zeros(len(table), [("uid", "<u8")])
    base["uid"] = uid if len(np.unique(uid)) == len(uid) else source.uid
    return with_columns(base, columns | carried)


def cs_to_star(source: CsSource, plain: bool = False) -> dict[str, pd.DataFrame]:
    """Convert a .cs into the optics and particles tables of a RELION 3.1 STAR file, all values text.

    Parameters
    ----------
    source : CryoSPARC particles as read
    plain : omit the columns lrwCs/...
        RELION warns that it does not know these columns; without them, the conversion back loses their fields.

    Returns
    -------
    dict
        Tables "optics" and "particles".

    Raises
    ------
    InputError
        If image names or pixel size are missing, or a value is invalid.
    """
    table, fields = source.table, source.fields
    for name in ("blob/path", "blob/idx", "blob/psize_A"):
        if name not in fields:
            raise InputError(
                f"{source.path}: no field {name}: give the .csg of the job, or copy its passthrough .cs here"
            )
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
        columns |= {name: _decimals(column) for name, column in zip([*ANGLES, *ORIGIN_A], values.T, strict=True)}
        taken |= {POSE, SHIFT}
    if SPLIT in fields:
        columns[HALF] = (integer_field(source.path, table, SPLIT) + 1).astype(str)
        taken.add(SPLIT)
    optics, group, used = _optics_and_groups(source.path, table, fields)
    columns[GROUP] = group.astype(str)
    taken |= used
    columns |= {
        name: text
        for name, text in micrograph_columns(source, table["uid"]).items()
        if STAR_PREFIX + name not in fields
    }
    taken |= _recomputable_fields(table, fields)
    for field in (name for name in table.dtype.names or () if name not in taken):
        column = table[field]
        if field.startswith(STAR_PREFIX):
            columns[field.removeprefix(STAR_PREFIX)] = decode_text(column)
        elif not (plain or field.startswith(STAR_OPTICS)):
            columns[f"{CS_PREFIX}{field}:{_type_name(column)}"] = _as_text(column)
    return {"optics": optics, "particles": pd.DataFrame(columns)}


def _recomputable_fields(table: StructuredArray, fields: set[str]) -> set[str]:
    """Return the fields that `star_to_cs` can compute again from the others."""
    computed = set() if (np.char.startswith(table["blob/path"], b">")).any() else {"blob/path"}
    if ALIGNED_PIXEL in fields and np.array_equal(table[ALIGNED_PIXEL], table["blob/psize_A"]):
        computed.add(ALIGNED_PIXEL)
    return computed | ({"uid"} if STAR_OPTICS + NAME in fields else set())


def _optics_rows(source: StarSource) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """Return the optics table and the row (n,) in it of every particle; for RELION 3.0 the particle table itself."""
    if source.optics is None:
        return source.table, np.arange(len(source.table))
    optics = source.blocks[source.optics]
    known = {number: row for row, number in enumerate(float_column(source.path, optics, GROUP))}
    rows = pd.Series(float_column(source.path, source.table, GROUP)).map(known)
    if rows.isna().any():
        row = int(np.argmax(rows.isna().to_numpy())) + 1
        raise InputError(
            f"{source.path}: row {row}: its optics group is not in data_optics: add the group to that table"
        )
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
    if have.issuperset({*ANGLES, *(origin_columns(have) or [])}):
        poses = read_poses(source, pixel)
        out[POSE] = rotations.to_cryosparc(poses.rotation).astype(np.float32)
        out[SHIFT] = _as_float32(path, SHIFT, poses.origin_A / aligned.astype(np.float64)[:, None])
        out[ALIGNED_PIXEL] = _as_float32(path, ALIGNED_PIXEL, aligned)
    if HALF in have:
        out[SPLIT] = (integer_column(path, table, HALF, 1) - 1).astype(np.uint32)
    return out


def _as_float32(path: Path, field: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Convert numbers (n, ...) to float32. Raises InputError naming the first row whose number does not fit."""
    with np.errstate(over="ignore"):
        out = values.astype(np.float32)
    bad = ~np.isfinite(out).reshape(len(out), -1).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: row {row + 1}: {field} would be {values[row]}, which does not fit float32 in a .cs: correct it"
        )
    return out


def _optics_and_groups(
    path: Path, table: StructuredArray, fields: set[str]
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], set[str]]:
    """Return the optics table, the group number (n,) of every particle, and the fields that the table covers."""
    fields_of_group = ["blob/psize_A", "blob/shape", *OPTICS_FIELDS.values(), "ctf/tilt_A", "ctf/anisomag"]
    kept = [name for name in ["ctf/exp_group_id", *fields_of_group] if name in fields]
    carried = [name for name in table.dtype.names or () if name.startswith(STAR_OPTICS)]
    codes = [pd.factorize(np.array(decode_text(table[name])))[0] for name in carried]
    first, group = group_identical_rows([*(table[name] for name in kept), *codes])
    rows = table[first]
    number = np.arange(1, len(first) + 1)
    if STAR_OPTICS + NAME in fields and "ctf/exp_group_id" in fields:
        exposure_group = integer_field(path, table, "ctf/exp_group_id")[first]
        number = exposure_group if len(np.unique(exposure_group)) == len(exposure_group) else number
    columns: dict[str, Any] = {GROUP: number.astype(str)}
    if STAR_OPTICS + NAME not in fields:
        columns[NAME] = [f"opticsGroup{number}" for number in columns[GROUP]]
    columns |= {name: _as_text(rows[field]) for name, field in OPTICS_FIELDS.items() if field in fields}
    columns[PIXEL] = _as_text(rows["blob/psize_A"])
    if "blob/shape" in fields:
        columns[SIZE] = rows["blob/shape"][:, 1].astype(str)
    if {"ctf/tilt_A", "ctf/cs_mm"} <= fields:
        cs_A = rows["ctf/cs_mm"].astype(np.float64)[:, None] * A_PER_MM
        lengths = rows["ctf/tilt_A"].astype(np.float64)
        sine = np.divide(lengths, cs_A, out=np.zeros_like(lengths), where=cs_A != 0)
        tilt = np.arcsin(np.clip(sine, -1, 1)) * 1e3
        columns |= {name: _decimals(column) for name, column in zip(TILT, tilt.T, strict=True)}
    if "ctf/anisomag" in fields:
        matrix = rows["ctf/anisomag"].astype(np.float64) + np.array([1.0, 0.0, 0.0, 1.0])
        columns |= {name: _decimals(column) for name, column in zip(MAGNIFICATION, matrix.T, strict=True)}
    columns |= {name.removeprefix(STAR_OPTICS): decode_text(rows[name]) for name in carried}
    represented = set(fields_of_group) - ({"ctf/tilt_A"} if "ctf/cs_mm" not in fields else set())
    represented |= {"ctf/exp_group_id"} if STAR_OPTICS + NAME in fields else set()
    return pd.DataFrame(columns), number[group], represented


def _embedded_cs_fields(source: StarSource) -> tuple[Columns, set[str]]:
    """Return the CryoSPARC fields that a STAR file carries, by name, and the names of their columns."""
    out: Columns = {}
    used = set()
    for name in map(str, source.table.columns):
        field, _, kind = name.removeprefix(CS_PREFIX).rpartition(":")
        shape_type = TYPE.match(kind)
        if name.startswith(CS_PREFIX) and field and shape_type:
            out[field] = _from_text(source, name, shape_type)
            used.add(name)
    return out, used


def _apply_edited_locations(source: StarSource, carried: Columns) -> set[str]:
    """Update carried micrograph names and coordinates from STAR columns that were edited; return these columns.

    The columns repeat what the carried fields hold, so a column that differs was edited; `carried` is changed in place.
    """
    path, table, columns = source.path, source.table, set()
    if MICROGRAPH in table.columns and LOCATION[0] in carried:
        columns.add(MICROGRAPH)
        rows = zip(table[MICROGRAPH], decode_text(carried[LOCATION[0]]), carried[LOCATION[0]].tolist(), strict=True)
        carried[LOCATION[0]] = np.array([raw if name == known else name.encode() for name, known, raw in rows])
    if {*COORDINATES} <= set(table.columns) and {*LOCATION[1:]} <= carried.keys():
        columns |= {*COORDINATES}
        shape, x, y = (carried[name] for name in LOCATION[1:])
        for name, column, size, up in ((LOCATION[2], x, shape[:, 1], False), (LOCATION[3], y, shape[:, 0], True)):
            pixel = float_column(path, table, COORDINATES[int(up)])
            edited = np.abs(pixel - (1.0 - column if up else column) * size) > 1e-5
            fraction = pixel / np.maximum(size, 1)
            carried[name] = np.where(edited, 1.0 - fraction if up else fraction, column).astype(column.dtype)
    return columns


def _type_name(column: npt.NDArray[Any]) -> str:
    shape = "x".join(str(size) for size in column.shape[1:])
    kind = "S1" if column.dtype.kind in "US" else column.dtype.str[1:]
    return f"{shape}*{kind}" if shape else kind


def _as_text(column: npt.NDArray[Any]) -> Any:
    """Format (n, …) values as n texts that restore them exactly; several values per row as [a,b,…]."""
    if column.dtype.kind in "SU":
        return [(value.decode() if isinstance(value, bytes) else str(value)) or "None" for value in column.tolist()]
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
        number = float if dtype.kind == "f" else _whole_number
        return np.array([[number(value) for value in row] for row in rows], dtype).reshape(len(values), *shape)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{source.path}: {name}: {error}: restore the original values of the columns {CS_PREFIX}..."
        ) from error


def _whole_number(text: str) -> int:
    """Return an integer, also from a truth value or a decimal such as 3.000000 that float64 holds exactly."""
    if text in ("True", "False"):
        return int(text == "True")
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if value != int(value) or abs(value) >= 2**53:
            raise ValueError(f"'{text}' is not a whole number") from None
        return int(value)


def _decimals(values: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    return np.char.mod("%.9g", values)
