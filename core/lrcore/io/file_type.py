"""Tell the type of a file from its name and first bytes, so that a wrong file is called what it is."""

import re
from pathlib import Path
from typing import Literal

from lrcore.errors import InputError
from lrcore.io import mrc_maps
from lrcore.io.cs_table import CSDAT_NAME, NPY_MAGIC
from lrcore.io.paths import SUFFIXES

FileType = Literal["STAR", "CryoSPARC", "MRC", ""]

BY_EXTENSION: dict[str, FileType] = {".star": "STAR", ".cs": "CryoSPARC", ".csg": "CryoSPARC"}
BY_EXTENSION |= dict.fromkeys(SUFFIXES, "MRC")
STAR_TABLE = re.compile(rb"(?:^|[\r\n])[ \t]*data_")
FIRST_BYTES = 1 << 16


def file_type(path: Path) -> FileType:
    """Return the type of a file from its extension or, for other names, from its first bytes.

    Parameters
    ----------
    path : existing file

    Returns
    -------
    str
        "STAR", "CryoSPARC", "MRC" (a map or stack), or "" for any other file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(FIRST_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    packed = path.suffix.lower() in mrc_maps.OPENERS
    named = BY_EXTENSION.get(Path(path.stem if packed else path.name).suffix.lower())
    if packed and named in ("STAR", "CryoSPARC"):
        raise InputError(f"{path}: is compressed: decompress it")
    if named is not None:
        return named
    if first.startswith(NPY_MAGIC) or first[1:].startswith(CSDAT_NAME):
        return "CryoSPARC"
    if STAR_TABLE.search(first):
        return "STAR"
    try:
        mrc_maps.read_header(path)
    except InputError:
        return ""
    return "MRC"


def is_cryosparc_particle_file(path: Path) -> bool:
    """Return whether a particle file is CryoSPARC's, not STAR. Raises InputError if it is neither."""
    found = file_type(path)
    if found == "MRC":
        raise InputError(f"{path}: is a map or image stack, not a particle file: give a .star, .cs or .csg file")
    if not found:
        raise InputError(f"{path}: is not a particle file: give a .star, .cs or .csg file")
    return found == "CryoSPARC"
