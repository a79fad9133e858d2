"""Convert particle tables from STAR to CryoSPARC and back (metadata only), without loss.

A STAR column without a CryoSPARC field is carried as text in `star/<column>` (one of the optics table in
`star_optics/<column>`); a CryoSPARC field without a STAR column is carried as `lrwCs/<field>:<type>`. The conversion
back restores both.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import StructuredArray
from lrcore.errors import InputError
from lrcore.imaging import rotations
from lrcore.io import cs_aberrations
from lrcore.io.cs_aberrations import Microscope, ZernikeAberrations
from lrcore.io.cs_table import (
    CsSource,
    decode_text,
    finite_field,
    integer_field,
    known_scale,
    micrograph_columns,
    with_columns,
)
from lrcore.io.row_groups import group_identical_rows
from lrcore.io.star_optics import (
    EVEN,
    GROUP,
    MAGNIFICATION,
    MICROSCOPE,
    NAME,
    ODD,
    PIXEL,
    PREMULTIPLIED,
    SIZE,
    TILT,
    format_coefficients,
    parse_coefficients,
    pixel_sizes,
)
from lrcore.io.star_particles import origin_columns, read_poses
from lrcore.io.star_table import IMAGE, StarSource, float_column, integer_column, parse_image_names, relion_stack_name
from lrcore.units import DEGREE

Columns = dict[str, npt.NDArray[Any]]

ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
ORIGIN_A = ["rlnOriginXAngst", "rlnOriginYAngst"]
ORIGIN_PX = ["rlnOriginX", "rlnOriginY"]
HALF = "rlnRandomSubset"
CTF_SCALE, SCALE, ALPHA = "rlnCtfScalefactor", "ctf/scale", "alignments3D/alpha"
PARTICLE_FIELDS = {
    "rlnDefocusU": ("ctf/df1_A", 1.0),
    "rlnDefocusV": ("ctf/df2_A", 1.0),
    "rlnDefocusAngle": ("ctf/df_angle_rad", DEGREE),
    "rlnPhaseShift": ("ctf/phase_shift_rad", DEGREE),
    "rlnCtfBfactor": ("ctf/bfactor", 1.0),
    CTF_SCALE: (SCALE, 1.0),
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
    if {ODD, EVEN} & set(optics.columns) or "ctf/tilt_A" not in columns or (columns["ctf/cs_mm"] == 0).any():
        taken -= set(TILT)  # A length contains coma of either kind, and none of a tilt at Cs = 0.
    if PREMULTIPLIED in optics.columns and (pd.to_numeric(optics[PREMULTIPLIED], errors="coerce") == 1).any():
        warnings.warn(
            f"{path}: the images are multiplied by their CTF ({PREMULTIPLIED}): the .cs keeps the mark for lrwidgets, "
            "but CryoSPARC does not know it",
            stacklevel=3,
        )
    carried, used = _embedded_cs_fields(source)
    used |= _apply_edited_locations(source, carried)
    for name in cs_aberrations.FIELDS.keys() & columns.keys():  # The Zernike polynomials may have been fitted again.
        carried.pop(name, None)
    if ALPHA in carried and CTF_SCALE in table.columns:  # which is the product of both
        scale = float_column(path, table, CTF_SCALE) / known_scale(carried[ALPHA])
        columns[SCALE] = _as_float32(path, SCALE, scale)
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
    if ALPHA in fields:
        scale = table[SCALE].astype(np.float64) if SCALE in fields else 1.0
        columns[CTF_SCALE] = _decimals(scale * known_scale(table[ALPHA]))
    if {POSE, SHIFT} <= fields:
        pixel = finite_field(source, ALIGNED_PIXEL if ALIGNED_PIXEL in fields else "blob/psize_A").astype(np.float64)
        angles = rotations.to_euler(rotations.from_cryosparc(finite_field(source, POSE)))
        values = np.concatenate([angles, finite_field(source, SHIFT) * pixel[:, None]], axis=1)
        columns |= {name: _decimals(column) for name, column in zip([*ANGLES, *ORIGIN_A], values.T, strict=True)}
        taken |= {POSE, SHIFT}
    if SPLIT in fields:
        columns[HALF] = (integer_field(source.path, table, SPLIT) + 1).astype(str)
        taken.add(SPLIT)
    optics, group, used = _optics_and_groups(source)
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
    out |= _aberration_fields(path, optics, rows)
    if set(MAGNIFICATION) <= set(optics.columns):
        matrix = np.stack([float_column(path, optics, name)[rows] for name in MAGNIFICATION], axis=1)
        out["ctf/anisomag"] = _as_float32(path, "ctf/anisomag", matrix - np.array([1.0, 0.0, 0.0, 1.0])).reshape(n, 4)
    return out


def _aberration_fields(path: Path, optics: pd.DataFrame, rows: npt.NDArray[np.int64]) -> Columns:
    """Convert beam tilt and Zernike polynomials; warn of those that CryoSPARC has no field for."""
    present = set(optics.columns)
    if not {*MICROSCOPE[:2]} <= present or not {*TILT, ODD, EVEN} & present:
        return {}
    numbers = [float_column(path, optics, name) for name in (*MICROSCOPE[:2], *TILT) if name in present]
    texts = [pd.factorize(optics[name])[0] for name in (ODD, EVEN) if name in present]
    first, group = group_identical_rows([*numbers, *texts])
    distinct = optics.iloc[first]
    microscopes, listed = _microscopes(path, distinct), _listed_aberrations(path, distinct)
    lost = {term: None for one in listed for term in cs_aberrations.inexpressible_terms(one)}
    if lost:
        warnings.warn(
            f"{path}: CryoSPARC has no field for the Zernike polynomials {', '.join(lost)}: the .cs keeps them for "
            "lrwidgets and for the way back, but CryoSPARC does not apply them",
            stacklevel=4,
        )
    lengths = list(map(cs_aberrations.lengths_from_zernike, listed, microscopes))
    names = [name for name in cs_aberrations.NAMES if {ODD, EVEN} & present or name == "tilt_A"]
    return {
        f"ctf/{name}": _as_float32(path, f"ctf/{name}", np.array([getattr(one, name) for one in lengths])[group[rows]])
        for name in names
    }


def _listed_aberrations(path: Path, optics: pd.DataFrame) -> list[ZernikeAberrations]:
    """Return beam tilt and Zernike coefficients of each row of an optics table."""
    n = len(optics)
    tilt = [float_column(path, optics, name).tolist() if name in optics.columns else [0.0] * n for name in TILT]
    odd, even = (
        [parse_coefficients(path, name, text) for text in optics[name]] if name in optics.columns else [()] * n
        for name in (ODD, EVEN)
    )
    return [ZernikeAberrations((x, y), a, b) for x, y, a, b in zip(*tilt, odd, even, strict=True)]


def _microscopes(path: Path, optics: pd.DataFrame) -> list[Microscope]:
    """Return voltage and spherical aberration of each row of an optics table."""
    voltage, cs_mm = (float_column(path, optics, name) for name in MICROSCOPE[:2])
    if not (voltage > 0).all():
        raise InputError(f"{path}: voltage is {voltage.min():g} kV, must be above 0: correct it")
    return [Microscope(*values) for values in zip(voltage.tolist(), cs_mm.tolist(), strict=True)]


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


def _optics_and_groups(source: CsSource) -> tuple[pd.DataFrame, npt.NDArray[np.int64], set[str]]:
    """Return the optics table, the group number (n,) of every particle, and the fields that the table covers."""
    path, table, fields = source.path, source.table, source.fields
    fields_of_group = [
        "blob/psize_A", "blob/shape", *OPTICS_FIELDS.values(), *cs_aberrations.FIELDS, "ctf/anisomag"
    ]  # fmt: skip
    kept = [name for name in ["ctf/exp_group_id", *fields_of_group] if name in fields]
    carried = [name for name in table.dtype.names or () if name.startswith(STAR_OPTICS)]
    codes = [pd.factorize(np.array(decode_text(table[name])))[0] for name in carried]
    numbers = [finite_field(source, name) if name in cs_aberrations.FIELDS else table[name] for name in kept]
    first, group = group_identical_rows([*numbers, *codes])
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
    if "ctf/anisomag" in fields:
        matrix = rows["ctf/anisomag"].astype(np.float64) + np.array([1.0, 0.0, 0.0, 1.0])
        columns |= {name: _decimals(column) for name, column in zip(MAGNIFICATION, matrix.T, strict=True)}
    columns |= {name.removeprefix(STAR_OPTICS): decode_text(rows[name]) for name in carried}
    represented = set(fields_of_group) - cs_aberrations.FIELDS.keys()
    if {"ctf/accel_kv", "ctf/cs_mm"} <= fields and cs_aberrations.FIELDS.keys() & fields:
        columns, used = _with_aberrations(path, rows, columns)
        represented |= used
    represented |= {"ctf/exp_group_id"} if STAR_OPTICS + NAME in fields else set()
    return pd.DataFrame(columns), number[group], represented


def _with_aberrations(path: Path, rows: StructuredArray, columns: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Add beam tilt and Zernike polynomials to the columns of an optics table.

    Parameters
    ----------
    path : file, for messages
    rows : a row of each optics group
    columns : columns of the optics table
        If they contain the aberrations of a file converted from STAR, these stay as they are unless the fields differ.

    Returns
    -------
    dict
        The columns.
    set of str
        The fields that they replace.
    """
    fields = [name for name in cs_aberrations.FIELDS if name in (rows.dtype.names or ())]
    optics = pd.DataFrame(columns)
    known, microscopes = _listed_aberrations(path, optics), _microscopes(path, optics)
    found = []
    for row, one, microscope in zip(rows, known, microscopes, strict=True):
        values = {name: [float(str(value)) for value in row[name]] for name in fields}
        lengths = cs_aberrations.lengths_from_fields(values, one, microscope)
        found.append(cs_aberrations.zernike_from_lengths(lengths, microscope, one))
    if found == known and {TILT[0], ODD, EVEN} & columns.keys():
        return columns, set(fields)
    merged = cs_aberrations.tilt_in_zernike(found, microscopes)
    columns = {name: column for name, column in columns.items() if name not in TILT}
    if merged == found and "ctf/tilt_A" in fields:
        tilt = np.array([one.beam_tilt_mrad for one in found]).T
        columns |= {name: _decimals(column) for name, column in zip(TILT, tilt, strict=True)}
    used = {"ctf/tilt_A"}
    for name, attribute, covered in (
        (ODD, "odd_zernike", ("ctf/shift_A", "ctf/trefoil_A")),
        (EVEN, "even_zernike", ("ctf/tetra_A",)),
    ):
        lists = [getattr(one, attribute) for one in merged]
        if lists != [getattr(one, attribute) for one in known]:
            columns[name] = [format_coefficients(values) for values in lists]
        used |= set(covered) if name in columns else set()
    return columns, used & set(fields)


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
