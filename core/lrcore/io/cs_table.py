"""Read CryoSPARC tables: the .cs arrays of a .csg group, joined into one array.

Rows are matched by uid, never by position, and pickled objects are never loaded.
"""

import os
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml

from lrcore.arrays import StructuredArray, UInt64
from lrcore.errors import InputError
from lrcore.io.cs_columns import to_field_type, to_uid
from lrcore.io.passthrough_files import is_passthrough, passthrough_files
from lrcore.io.paths import folders_above, is_below, may_leave_folder

NPY_MAGIC = b"\x93NUMPY"
CSDAT_NAME = b"CSDAT"
"""Compressed format of cryosparc-tools, after a first byte that depends on the version."""
MAX_HEADER_BYTES = 1 << 22
"""Longest header that is parsed; NumPy's own limit of 10 kB is less than the fields of a hundred classes need."""
PRIMARY = ("alignments3D", "alignments3D_multi", "ctf", "blob")
NUMBERS = "iuf"
FIELD_TYPES: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "path": ("SU", ()),
    "idx": ("iu", ()),
    "shape": ("iu", (2,)),
    "pose": (NUMBERS, (3,)),
    "shift": (NUMBERS, (2,)),
    **dict.fromkeys(("split", "exp_group_id"), ("iu", ())),
    "psize_A": (NUMBERS, ()),
    **dict.fromkeys(("df1_A", "df2_A", "df_angle_rad", "phase_shift_rad", "bfactor", "scale", "alpha"), (NUMBERS, ())),
    **dict.fromkeys(("accel_kv", "cs_mm", "amp_contrast", "sign"), (NUMBERS, ())),
    **dict.fromkeys(("shift_A", "tilt_A", "trefoil_A"), (NUMBERS, (2,))),
    **dict.fromkeys(("tetra_A", "anisomag"), (NUMBERS, (4,))),
    "class_posterior": (NUMBERS, None),
    "location/micrograph_path": ("SU", ()),
    "location/micrograph_shape": (NUMBERS, (2,)),
    **dict.fromkeys(("location/center_x_frac", "location/center_y_frac", "location/micrograph_psize_A"), (NUMBERS, ())),
}
"""Field of the slots that are read → allowed dtype kinds and shape per particle (and class); None for any shape."""
OWN_SLOTS = ("lrw", "star", "star_optics")
"""Slots of this package, unknown to CryoSPARC: a .csg does not list them."""
VOLUME_SLOTS = ("map", "mask", "volume")
"""Beginnings of the slots of volumes, which no passthrough file of particles completes."""
DAMAGE_ERRORS = (ValueError, TypeError, SyntaxError, EOFError, MemoryError, OverflowError, RecursionError)
"""Exceptions that NumPy raises for an invalid header, besides `tokenize.TokenError`."""


@dataclass(frozen=True)
class CsSource:
    """CryoSPARC particles or volumes as read, with the files joined by uid.

    Attributes
    ----------
    path : file that was given
    table : (n,) structured array with fields named slot/name
    slots : slot → type, as a .csg lists it
    missing_files : slot → file that does not exist
    files : all files that were read
    version : CryoSPARC version that wrote them, empty if unknown
    """

    path: Path
    table: StructuredArray
    slots: dict[str, str]
    missing_files: dict[str, Path]
    files: tuple[Path, ...]
    version: str

    @property
    def fields(self) -> set[str]:
        """Return the names of all fields."""
        return set(self.table.dtype.names or ())


def read_source(path: Path) -> CsSource:
    """Read a .csg with its .cs files, or a .cs with the passthrough files in its folder.

    Parameters
    ----------
    path : .csg or .cs file

    Returns
    -------
    CsSource
        A .cs that a .csg lists but that does not exist is noted in `missing_files`.

    Raises
    ------
    InputError
        If a file is damaged or invalid, or nothing can be read.
    """
    return _read_group(path) if path.suffix.lower() == ".csg" else _read_single(path)


def read_array(path: Path) -> StructuredArray:
    """Read a .cs file as a structured array. Raises InputError if it is none, or holds pickled objects.

    Fields whose type is not CryoSPARC's, as scripts save them, are converted if they hold the same values.
    """
    table = _load(path)
    if table.ndim != 1 or "uid" not in (table.dtype.names or ()):
        raise _not_a_table(path)
    if len(table) == 0:
        raise InputError(f"{path}: has no rows: give the output of a job that kept particles")
    uid = to_uid(path, table["uid"])
    ordered = np.sort(uid)
    if (ordered[1:] == ordered[:-1]).any():
        raise InputError(f"{path}: some uid occur more than once, so rows are ambiguous: remove duplicates first")
    converted = _converted_fields(path, table)
    if table.dtype["uid"].kind != "u" or table.dtype["uid"].itemsize != uid.itemsize:
        converted["uid"] = uid
    return _assemble(table, converted) if converted else table


def field_names(path: Path) -> tuple[str, ...]:
    """Return the names of the fields of a .cs from its header alone. Raises InputError as `read_array` does."""
    return _load(path, "r").dtype.names or ()


def missing_files_error(path: Path, missing: dict[str, Path]) -> InputError:
    """Return an error that lists the missing files of a .csg and the slots in them, in one line."""
    by_file: dict[Path, list[str]] = {}
    for slot, file in missing.items():
        by_file.setdefault(file, []).append(slot)
    listed = "; ".join(f"{file.name} (slot {', '.join(slots)})" for file, slots in by_file.items())
    return InputError(f"{path}: metafile does not exist: {listed}: copy it into the folder of the .csg")


def find_rows(table_uid: UInt64, wanted: UInt64) -> npt.NDArray[np.int64]:
    """Find the row of each wanted uid in a table.

    Parameters
    ----------
    table_uid : (n,) uid of the rows
    wanted : (m,) uid to find

    Returns
    -------
    (m,) int64
        Row numbers; −1 where the table lacks the uid.
    """
    order = np.argsort(table_uid, kind="stable")
    place = np.minimum(np.searchsorted(table_uid, wanted, sorter=order), len(order) - 1)
    rows = order[place]
    return np.where(table_uid[rows] == wanted, rows, -1)


def with_columns(table: StructuredArray, columns: dict[str, npt.NDArray[Any]]) -> StructuredArray:
    """Return the table with columns replaced or added; a replaced column keeps its dtype, unless it is text."""
    return _assemble(table, {name: _cast_to_column(table, name, column) for name, column in columns.items()})


def integer_field(path: Path, table: StructuredArray, name: str) -> npt.NDArray[np.int64]:
    """Return a field as (n,) whole numbers. Raises InputError naming the first row with another value."""
    values = table[name]
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(whole, values):
        row = int(np.argmax(whole != values))
        raise InputError(f"{path}: row {row + 1}: {name} is {values[row]}, not a whole number: correct it")
    return np.asarray(whole)


def finite_field(source: CsSource, name: str) -> npt.NDArray[Any]:
    """Return a field. Raises InputError naming the row of a value that is not finite, or the field if it is missing."""
    if name not in source.fields:
        raise InputError(f"{source.path}: no field {name}: export the particles from CryoSPARC again")
    values = source.table[name]
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        row = int(np.argmax(bad))
        uid = source.table["uid"][row]
        raise InputError(
            f"{source.path}: row {row + 1} (uid {uid}): {name} is not a finite number: remove the particle"
        )
    return values


def known_scale(alpha: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the scales (n,) of a column alpha as float64, with 1 in place of values that are no scale (0 or less)."""
    return np.where(alpha > 0, alpha.astype(np.float64), 1.0)


def decode_text(column: npt.NDArray[Any]) -> list[str]:
    """Decode a text column of a .cs file, without the `>` that CryoSPARC puts before exported paths."""
    return [(text.decode() if isinstance(text, bytes) else str(text)).lstrip(">") for text in column.tolist()]


def stack_names(source: CsSource, uid: UInt64) -> list[str]:
    """Return the paths (len(uid),) of the stacks as written in the table."""
    return decode_text(source.table["blob/path"][find_rows(source.table["uid"], uid)])


def micrograph_columns(source: CsSource, uid: UInt64) -> dict[str, list[str]]:
    """Return RELION's micrograph name and coordinates (px) of the given particles, as far as the table has them."""
    rows = source.table[find_rows(source.table["uid"], uid)]
    out = {}
    if "location/micrograph_path" in source.fields:
        out["rlnMicrographName"] = decode_text(rows["location/micrograph_path"])
    if {"location/micrograph_shape", "location/center_x_frac", "location/center_y_frac"} <= source.fields:
        height, width = rows["location/micrograph_shape"].T
        # CryoSPARC counts y from the bottom of the micrograph, RELION from the first row of the file.
        out["rlnCoordinateX"] = list(np.char.mod("%.6f", rows["location/center_x_frac"] * width))
        out["rlnCoordinateY"] = list(np.char.mod("%.6f", (1.0 - rows["location/center_y_frac"]) * height))
    return out


def _load(path: Path, mmap_mode: Literal["r"] | None = None) -> StructuredArray:
    """Read an array, or with `mmap_mode` its header only. Raises InputError if it is damaged or no NumPy file."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(NPY_MAGIC))
        if magic == NPY_MAGIC:
            table: StructuredArray = np.load(path, mmap_mode, allow_pickle=False, max_header_size=MAX_HEADER_BYTES)
            return table
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    except (*DAMAGE_ERRORS, tokenize.TokenError) as error:
        if "Object arrays" in str(error):
            raise InputError(
                f"{path}: contains pickled Python objects, which are never loaded: export it from CryoSPARC again, or "
                "save its text as bytes (dtype S) and its vectors as arrays"
            ) from error
        raise InputError(f"{path}: is truncated or damaged: export it from CryoSPARC again") from error
    if magic[1:] == CSDAT_NAME:
        raise InputError(
            f"{path}: is in the compressed format of cryosparc-tools (CSDAT_FORMAT): load it with cryosparc-tools and "
            "save it again with format=NUMPY_FORMAT"
        )
    raise _not_a_table(path)


def _not_a_table(path: Path) -> InputError:
    return InputError(f"{path}: is not a CryoSPARC .cs file (a NumPy table with uid): export it from CryoSPARC again")


def _converted_fields(path: Path, table: StructuredArray) -> dict[str, npt.NDArray[Any]]:
    """Return the columns that were converted to a type of CryoSPARC.

    Raises InputError naming a field whose dtype or shape is not CryoSPARC's, or text that is not UTF-8.
    """
    converted = {}
    for name in (name for name in table.dtype.names or () if name != "uid"):
        slot, _, end = name.rpartition("/")
        kinds, last = FIELD_TYPES.get(end if slot in PRIMARY else name, ("biufSU" if slot else "biufSUV", None))
        several = slot == "alignments3D_multi" and table[name].ndim == len(last or ()) + 2
        column = to_field_type(path, name, table[name], kinds, None if several else last)
        if column.dtype.kind not in kinds or last not in (None, column.shape[2 if several else 1 :]):
            kind = f"{column.dtype.str[1:]} {column.shape[1:] or ''}".strip()
            raise InputError(f"{path}: {name} has type {kind}, which CryoSPARC does not write: export it again")
        if column.dtype.kind == "S" and not (raw := column.tobytes()).isascii():
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}: {name} is text that is not UTF-8: rename the file or item that it names"
                ) from error
        if name == "blob/idx" and column.dtype.kind == "i" and column.min() < 0:
            row = int(np.argmax(column < 0)) + 1
            raise InputError(f"{path}: row {row}: blob/idx is below 0: remove the particle")
        if column.dtype != table[name].dtype or column.shape != table[name].shape:
            converted[name] = column
    return converted


def _read_single(path: Path) -> CsSource:
    """Read a .cs, and from the passthrough files beside it the slots that it lacks.

    The files of its own output must have all its particles. Another file is used if it has them all.
    """
    table, files, problems = read_array(path), [path], []
    if not is_passthrough(path) and not any(slot.startswith(VOLUME_SLOTS) for slot in _slots(table)):
        own, others = passthrough_files(path)
        for file in (*own, *others):
            try:
                joined = _with_new_slots(table, file, path, file in own)
            except InputError as error:
                if file in own:
                    raise
                problems.append(error)
                continue
            if joined is not table:
                table = joined
                files.append(file)
    if problems and set(_slots(table)) & set(PRIMARY) and not {"blob", "ctf"} <= set(_slots(table)):
        raise problems[0]
    return CsSource(path, table, _types(table), {}, tuple(files), "")


def _with_new_slots(table: StructuredArray, file: Path, path: Path, own: bool) -> StructuredArray:
    """Return the table with the slots of a passthrough file that it lacks; `own`: of the same output.

    The table itself if there are none, or the file of another output has none of its particles. Raises InputError if
    the file lacks some of them.
    """
    present = set(_slots(table))
    if all(name.partition("/")[0] in present for name in field_names(file) if "/" in name):
        return table
    more = read_array(file)
    if not own and (find_rows(more["uid"], table["uid"]) < 0).all():
        return table
    new = [name for slot in _slots(more) if slot not in present for name in _fields(more, slot)]
    return _join(table, more, new, file, path)


def _read_group(path: Path) -> CsSource:
    group = _read_yaml(path)
    files: dict[str, Path] = {}
    slots: dict[str, str] = {}
    for slot, entry in group["results"].items():
        if not isinstance(slot, str) or not isinstance(entry, dict) or not isinstance(entry.get("metafile"), str):
            raise InputError(f"{path}: results/{slot} has no metafile: export the group from CryoSPARC again")
        name = entry["metafile"].lstrip(">")
        files[slot] = path.parent / name
        if may_leave_folder(name) and not is_below(files[slot], folders_above(path.parent)[-1:]):
            raise InputError(
                f"{path}: results/{slot}: {name} is outside the project folder: copy it into the folder of the .csg"
            )
        slots[slot] = str(entry.get("type", f"particle.{slot}"))
    missing = {slot: file for slot, file in files.items() if not os.path.isfile(file)}
    present = {slot: file for slot, file in files.items() if slot not in missing}
    if not present:
        raise missing_files_error(path, missing)
    arrays = {file: read_array(file) for file in dict.fromkeys(present.values())}
    first = next((slot for slot in PRIMARY if slot in present), next(iter(present)))
    primary = arrays[present[first]]
    table = primary[["uid"]].copy()
    for slot, file in present.items():
        fields = _fields(arrays[file], slot)
        if not fields:
            raise InputError(f"{path}: slot {slot} has no fields in {file}: export the group from CryoSPARC again")
        table = _join(table, arrays[file], fields, file, path)
    for file, array in arrays.items():
        own = {name for slot in OWN_SLOTS for name in _fields(array, slot)} - set(table.dtype.names or ())
        table = _join(table, array, [name for name in array.dtype.names or () if name in own], file, path)
    slots = {slot: slots[slot] for slot in present}
    return CsSource(path, table, slots, missing, (path, *arrays), str(group.get("version", "")))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        group = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a .csg file (not YAML): export the group from CryoSPARC again") from error
    if not isinstance(group, dict) or not isinstance(group.get("results"), dict) or not group["results"]:
        raise InputError(f"{path}: is not a .csg file (it lists no results): export the group from CryoSPARC again")
    return group


def _join(table: StructuredArray, more: StructuredArray, fields: list[str], file: Path, path: Path) -> StructuredArray:
    rows = find_rows(more["uid"], table["uid"])
    if (rows < 0).any():
        missing = int((rows < 0).sum())
        raise InputError(
            f"{path}: {missing} of {len(table)} particles (first: uid {table['uid'][rows < 0][0]}) are not in {file}: "
            "give the files of one job"
        )
    return with_columns(table, {name: more[name][rows] for name in fields})


def _slots(table: StructuredArray) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in table.dtype.names or () if "/" in name))


def _fields(table: StructuredArray, slot: str) -> list[str]:
    return [name for name in table.dtype.names or () if name.startswith(slot + "/")]


def _types(table: StructuredArray) -> dict[str, str]:
    # Columns of this package are in no slot: CryoSPARC would not know it.
    return {slot: f"particle.{slot}" for slot in _slots(table) if slot not in OWN_SLOTS}


def _assemble(table: StructuredArray, columns: dict[str, npt.NDArray[Any]]) -> StructuredArray:
    """Return the table with columns replaced or added, in their own dtypes."""
    fields = {name: table[name] for name in table.dtype.names or ()} | columns
    out = np.zeros(len(table), [(name, column.dtype, column.shape[1:]) for name, column in fields.items()])
    for name, column in fields.items():
        out[name] = column
    return out


def _cast_to_column(table: StructuredArray, name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if name not in (table.dtype.names or ()) or table.dtype[name].base.kind in "SU":
        return np.asarray(column)
    return np.asarray(column).astype(table.dtype[name].base)
