"""CryoSPARC tables: .cs arrays and .csg groups joined by uid into one array, never by row, never unpickled."""

import os
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from lrcore.arrays import StructuredArray, UInt64
from lrcore.errors import InputError
from lrcore.io.paths import folders_above, is_below, may_leave_folder

NPY_MAGIC = b"\x93NUMPY"
PRIMARY = ("alignments3D", "alignments3D_multi", "ctf", "blob")
NUMBERS = "iuf"
FIELD_TYPES: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "path": ("SU", ()),
    "idx": ("iu", ()),
    "shape": ("iu", (2,)),
    "pose": (NUMBERS, (3,)),
    "shift": (NUMBERS, (2,)),
    **dict.fromkeys(("split", "psize_A"), (NUMBERS, ())),
    **dict.fromkeys(("df1_A", "df2_A", "df_angle_rad", "phase_shift_rad", "bfactor", "scale"), (NUMBERS, ())),
    **dict.fromkeys(("accel_kv", "cs_mm", "amp_contrast", "exp_group_id", "sign"), (NUMBERS, ())),
    **dict.fromkeys(("shift_A", "tilt_A", "trefoil_A"), (NUMBERS, (2,))),
    **dict.fromkeys(("tetra_A", "anisomag"), (NUMBERS, (4,))),
    "class_posterior": (NUMBERS, None),
    "location/micrograph_path": ("SU", ()),
    "location/micrograph_shape": (NUMBERS, (2,)),
    **dict.fromkeys(("location/center_x_frac", "location/center_y_frac", "location/micrograph_psize_A"), (NUMBERS, ())),
}
"""Field (of the slots that we read) → kinds of its type, and its axes (after that of classes); None for any."""
OWN_SLOTS = ("lrw", "star", "star_optics")
"""Slots of our own, which CryoSPARC does not know: a .csg does not list them."""
DAMAGE_ERRORS = (ValueError, TypeError, SyntaxError, EOFError, MemoryError, OverflowError)
"""What NumPy raises of a header that makes no sense, and `tokenize` beneath it."""
JOB = re.compile(r"J\d+")


@dataclass(frozen=True)
class CsSource:
    """Particles or volumes of CryoSPARC as they were read, their files joined by uid.

    table: (n,) structured array with the fields `slot/name`. slots: type of every slot, as a .csg lists it.
    absent: for every slot whose file is missing, that file. files: all that were read. version: of the CryoSPARC
    that wrote them.
    """

    path: Path
    table: StructuredArray
    slots: dict[str, str]
    missing_files: dict[str, Path]
    files: tuple[Path, ...]
    version: str

    @property
    def fields(self) -> set[str]:
        """Names of all fields."""
        return set(self.table.dtype.names or ())


def read_source(path: Path) -> CsSource:
    """Read a .csg with its .cs files, or a .cs with the passthrough beside it.

    A missing file of a .csg is noted in `absent`. Raises InputError if nothing can be read.
    """
    return _read_group(path) if path.suffix.lower() == ".csg" else _read_single(path)


def read_array(path: Path) -> StructuredArray:
    """A .cs file as a structured array. Raises InputError if it is none, or holds pickled objects."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(NPY_MAGIC))
        table = np.load(path, allow_pickle=False) if magic == NPY_MAGIC else None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    except (*DAMAGE_ERRORS, tokenize.TokenError) as error:
        pickled = "Object arrays" in str(error)
        reason = "holds pickled Python objects, which are never loaded" if pickled else "is truncated or damaged"
        raise InputError(f"{path}: {reason}: export it from CryoSPARC again") from error
    if table is None or table.ndim != 1 or "uid" not in (table.dtype.names or ()) or table.dtype["uid"].kind != "u":
        raise InputError(f"{path}: is no CryoSPARC .cs file (a NumPy table with uid): export it from CryoSPARC again")
    if len(table) == 0:
        raise InputError(f"{path}: has no rows: give the output of a job that kept particles")
    ordered = np.sort(table["uid"])
    if (ordered[1:] == ordered[:-1]).any():
        raise InputError(f"{path}: some uid stand twice, so rows cannot be told apart: remove duplicates first")
    _require_field_types(path, table)
    return table


def missing_files_error(path: Path, absent: dict[str, Path]) -> InputError:
    """Say in one line which files of a .csg are missing, and which slots are in them."""
    by_file: dict[Path, list[str]] = {}
    for slot, file in absent.items():
        by_file.setdefault(file, []).append(slot)
    listed = "; ".join(f"{file.name} (slot {', '.join(slots)})" for file, slots in by_file.items())
    return InputError(f"{path}: metafile not there: {listed}: copy it beside the .csg")


def find_rows(table_uid: UInt64, wanted: UInt64) -> npt.NDArray[np.int64]:
    """Row of each wanted uid in a table, −1 where there is none: (len(wanted),)."""
    order = np.argsort(table_uid, kind="stable")
    place = np.minimum(np.searchsorted(table_uid, wanted, sorter=order), len(order) - 1)
    rows = order[place]
    return np.where(table_uid[rows] == wanted, rows, -1)


def with_columns(table: StructuredArray, columns: dict[str, npt.NDArray[Any]]) -> StructuredArray:
    """The table with columns replaced or added; a replaced one keeps its type unless it is text that needs room."""
    replaced = {name: _cast_to_column(table, name, column) for name, column in columns.items()}
    fields = {name: table[name] for name in table.dtype.names or ()} | replaced
    dtype = [(name, column.dtype, column.shape[1:]) for name, column in fields.items()]
    out = np.zeros(len(table), dtype)
    for name, column in fields.items():
        out[name] = column
    return out


def integer_field(path: Path, table: StructuredArray, name: str) -> npt.NDArray[np.int64]:
    """A field of whole numbers, (n,). Raises InputError naming the first row that has none."""
    values = table[name]
    with np.errstate(invalid="ignore"):
        found = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(found, values):
        row = int(np.argmax(found != values))
        raise InputError(f"{path}: row {row + 1}: {name} is {values[row]}, not a whole number: correct it")
    return np.asarray(found)


def finite_field(source: CsSource, name: str) -> npt.NDArray[Any]:
    """A field. Raises InputError naming the row of a value that is not finite, or the field if it is not there."""
    if name not in source.fields:
        raise InputError(f"{source.path}: no field {name}: export the particles from CryoSPARC again")
    values = source.table[name]
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        row = int(np.argmax(bad))
        uid = source.table["uid"][row]
        raise InputError(f"{source.path}: row {row + 1} (uid {uid}): {name} is not a number: remove the particle")
    return values


def decode_text(column: npt.NDArray[Any]) -> list[str]:
    """A text column of a .cs file, without the `>` that CryoSPARC puts before exported paths."""
    return [(text.decode() if isinstance(text, bytes) else str(text)).lstrip(">") for text in column.tolist()]


def stack_names(source: CsSource, uid: UInt64) -> list[str]:
    """(len(uid),) the stack's path as the table has it."""
    return decode_text(source.table["blob/path"][find_rows(source.table["uid"], uid)])


def micrograph_columns(source: CsSource, uid: UInt64) -> dict[str, list[str]]:
    """RELION's micrograph name and coordinates (px) of the given particles, as far as the table has them."""
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


def _require_field_types(path: Path, table: StructuredArray) -> None:
    """Raise InputError naming a field that is of another type or shape than CryoSPARC's, or text that is none."""
    for name in table.dtype.names or ():
        column = table[name]
        slot, _, end = name.rpartition("/")
        kinds, last = FIELD_TYPES.get(end if slot in PRIMARY else name, ("biufSU" if slot else "biufSUV", None))
        several = slot == "alignments3D_multi" and column.ndim == len(last or ()) + 2
        if column.dtype.kind not in kinds or last not in (None, column.shape[2 if several else 1 :]):
            kind = f"{column.dtype.str[1:]} {column.shape[1:] or ''}".strip()
            raise InputError(f"{path}: {name} is of another type ({kind}) than CryoSPARC's: export it again")
        if column.dtype.kind == "S" and not (raw := column.tobytes()).isascii():
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: {name} is text that is not UTF-8: rename what it names") from error
        if name == "blob/idx" and column.dtype.kind == "i" and column.min() < 0:
            row = int(np.argmax(column < 0)) + 1
            raise InputError(f"{path}: row {row}: blob/idx is below 0: remove the particle")


def _read_single(path: Path) -> CsSource:
    table = read_array(path)
    files = [path]
    if set(_slots(table)) & set(PRIMARY):
        for beside in _passthroughs(path):
            more = read_array(beside)
            new = [slot for slot in _slots(more) if slot not in _slots(table)]
            if new:
                table = _join(table, more, [name for slot in new for name in _fields(more, slot)], beside, path)
                files.append(beside)
    return CsSource(path, table, _types(table), {}, tuple(files), "")


def _passthroughs(path: Path) -> Iterator[Path]:
    """The passthrough files of particles of the same job in the same folder."""
    job = JOB.search(path.name)
    for beside in sorted(path.parent.glob("*passthrough*particles*.cs")):
        theirs = JOB.search(beside.name)
        same = job is None or theirs is None or job.group() == theirs.group()
        if beside != path and same:
            yield beside


def _read_group(path: Path) -> CsSource:
    group = _read_yaml(path)
    files: dict[str, Path] = {}
    slots: dict[str, str] = {}
    for slot, entry in group["results"].items():
        if not isinstance(slot, str) or not isinstance(entry, dict) or not isinstance(entry.get("metafile"), str):
            raise InputError(f"{path}: results/{slot} names no metafile: export the group from CryoSPARC again")
        name = entry["metafile"].lstrip(">")
        files[slot] = path.parent / name
        if may_leave_folder(name) and not is_below(files[slot], folders_above(path.parent)[-1:]):
            raise InputError(f"{path}: results/{slot} names {name}, outside its project: copy it beside the .csg")
        slots[slot] = str(entry.get("type", f"particle.{slot}"))
    absent = {slot: file for slot, file in files.items() if not os.path.isfile(file)}
    present = {slot: file for slot, file in files.items() if slot not in absent}
    if not present:
        raise missing_files_error(path, absent)
    arrays = {file: read_array(file) for file in dict.fromkeys(present.values())}
    first = next((slot for slot in PRIMARY if slot in present), next(iter(present)))
    primary = arrays[present[first]]
    table = primary[["uid"]].copy()
    for slot, file in present.items():
        fields = _fields(arrays[file], slot)
        if not fields:
            raise InputError(f"{path}: slot {slot} has no field in {file}: export the group from CryoSPARC again")
        table = _join(table, arrays[file], fields, file, path)
    for file, array in arrays.items():
        ours = {name for slot in OWN_SLOTS for name in _fields(array, slot)} - set(table.dtype.names or ())
        table = _join(table, array, [name for name in array.dtype.names or () if name in ours], file, path)
    slots = {slot: slots[slot] for slot in present}
    return CsSource(path, table, slots, absent, (path, *arrays), str(group.get("version", "")))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        group = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no .csg file (not YAML): export the group from CryoSPARC again") from error
    if not isinstance(group, dict) or not isinstance(group.get("results"), dict) or not group["results"]:
        raise InputError(f"{path}: is no .csg file (it lists no results): export the group from CryoSPARC again")
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
    # Columns of our own are in no slot, since CryoSPARC would not know it.
    return {slot: f"particle.{slot}" for slot in _slots(table) if slot not in OWN_SLOTS}


def _cast_to_column(table: StructuredArray, name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if name not in (table.dtype.names or ()) or table.dtype[name].base.kind in "SU":
        return np.asarray(column)
    return np.asarray(column).astype(table.dtype[name].base)
