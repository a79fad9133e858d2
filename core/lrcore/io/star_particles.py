"""Read STAR particles of RELION 3.0 to 5, and write the original table with new poses."""

import warnings
from collections.abc import Collection
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.imaging import rotations
from lrcore.io.checks import require_single_box_and_pixel_size
from lrcore.io.cs_table import CsSource, micrograph_columns, stack_names
from lrcore.io.image_stacks import read_stack_header
from lrcore.io.paths import refuse_to_overwrite_inputs, require_stacks, stack_name_from_folder
from lrcore.io.star_optics import GROUP, RELION_30_OPTICS_COLUMNS, BoxOf, optics_table, read_groups
from lrcore.io.star_table import (
    IMAGE,
    STACK_SUFFIX,
    StarSource,
    float_column,
    parse_image_names,
    read_source,
    relion_stack_name,
)
from lrcore.io.star_text import write_blocks
from lrcore.records import ImageSource, Particles, Poses
from lrcore.units import DEGREE

ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
ORIGIN_A = ["rlnOriginXAngst", "rlnOriginYAngst"]
ORIGIN_PX = ["rlnOriginX", "rlnOriginY"]
HALF = "rlnRandomSubset"
DEFOCUS = ["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"]
MICROGRAPH = "rlnMicrographName"
OPTIONAL = {"rlnPhaseShift": 0.0, "rlnCtfBfactor": 0.0, "rlnCtfScalefactor": 1.0}
SPLIT_HINT = "run a 3D auto-refinement first, or split them here (--resplit)"
SIGN = "lrwCs/blob/sign:f4"
"""Column with the sign of the image contrast in a file converted from CryoSPARC (`convert`)."""
FLOAT_FORMAT = "%.6f"


def read_particles(path: str | Path, images_dir: Path | None = None, split: bool = True) -> Particles:
    """Read particles with poses, CTF and half sets from a STAR file of RELION 3.0 to 5.

    Parameters
    ----------
    path : STAR file
    images_dir, split : see `lrcore.io.read_particles`, which also says what is raised
    """
    source = read_source(Path(path))
    path, table = source.path, source.table
    _require_columns(source, split)
    images = read_images(source, images_dir)
    group, optics = read_groups(source, box_reader(images))
    pixel_size_A = np.array([optics_group.pixel_size_A for optics_group in optics])[group]
    optics = require_single_box_and_pixel_size(path, optics)
    defocus = np.stack([float_column(path, table, name) for name in DEFOCUS], axis=1)
    phase, bfactor, scale = (
        float_column(path, table, name) if name in table.columns else np.full(len(table), default)
        for name, default in OPTIONAL.items()
    )
    return Particles(
        uid=source.uid,
        half=_halves(path, table) if split else np.ones(len(table), np.int8),
        group=group,
        optics=optics,
        poses=read_poses(source, pixel_size_A),
        defocus_A=defocus[:, :2].copy(),
        defocus_angle_rad=defocus[:, 2] * DEGREE,
        phase_shift_rad=phase * DEGREE,
        bfactor_A2=bfactor,
        scale=scale,
        images=images,
        path=path,
        source=source,
    )


def missing_columns(source: StarSource) -> dict[str, list[str]]:
    """Return the columns that a local refinement needs and the table lacks, by purpose: poses, half sets, CTF."""
    present = set(source.table.columns)
    needed = {"poses": [*ANGLES, *(origin_columns(present) or [])], "half sets": [HALF], "CTF": DEFOCUS}
    missing = {purpose: [name for name in names if name not in present] for purpose, names in needed.items()}
    return {purpose: names for purpose, names in missing.items() if names}


def origin_columns(present: Collection[object]) -> list[str] | None:
    """Return the columns that have the origins, or should have them; None if the table has no origin at all.

    M writes no origins with its 2D particle series, whose images are centred; RELION, too, then takes them as 0.
    """
    complete = next((names for names in (ORIGIN_A, ORIGIN_PX) if set(names) <= set(present)), None)
    return complete or (ORIGIN_A if set(present) & {*ORIGIN_A, *ORIGIN_PX} else None)


def read_images(source: StarSource, images_dir: Path | None = None) -> ImageSource:
    """Find the images of all rows. Raises InputError naming the first row whose stack does not exist."""
    index, name = parse_image_names(source.path, source.table)
    stack, names = pd.factorize(name)
    stacks = require_stacks(source.path, [str(stack_name) for stack_name in names], stack, images_dir)
    sign = np.ones(len(index)) if SIGN not in source.table.columns else float_column(source.path, source.table, SIGN)
    return ImageSource(stacks, stack.astype(np.int32), index, sign.astype(np.float32))


def box_reader(images: ImageSource) -> BoxOf:
    """Return a function that reads the box of a row's image from the header of its stack."""

    @cache
    def box_of(row: int) -> int:
        return read_stack_header(images.stacks[images.stack[row]]).shape[2]

    return box_of


def read_poses(source: StarSource, pixel_size_A: Float64) -> Poses:
    """Read the poses of all rows; pixel_size_A (n,) converts origins in pixels (RELION 3.0) into Å."""
    angles = np.stack([float_column(source.path, source.table, name) for name in ANGLES], axis=1)
    return Poses(rotations.from_euler(angles), read_origins(source, pixel_size_A))


def read_origins(source: StarSource, pixel_size_A: Float64) -> Float64:
    """Read the origins (n, 2) in Å of all rows. Warns if the table has none, which are then 0."""
    path, table = source.path, source.table
    columns = origin_columns(table.columns)
    if columns is None:
        warnings.warn(f"{path}: no column {', '.join(ORIGIN_A)}: the origins are taken as 0", stacklevel=4)
        return np.zeros((len(table), 2))
    origin = np.stack([float_column(path, table, name) for name in columns], axis=1)
    return origin if columns is ORIGIN_A else origin * pixel_size_A[:, None]


def write_particles(
    path: str | Path, particles: Particles, poses: Poses, extra: dict[str, npt.NDArray[np.generic]] | None = None
) -> None:
    """Write a STAR file of RELION 3.1 with new poses.

    For particles read from a STAR file, the original rows are written with every other column unchanged; a RELION 3.0
    table gets a data_optics. An image keeps its name if its stack can still be found by it from the folder of the new
    file or one above it (the project folder, where RELION runs); otherwise the name becomes relative to the folder of
    the new file, where RELION must then be run. A stack called .mrc is named `.mrc:mrcs`, as RELION requires.

    Parameters
    ----------
    path : file to write
    particles, poses, extra : see `lrcore.io.write_particles`

    Raises
    ------
    InputError
        If the file is the input itself or cannot be written.
    """
    path = Path(path)
    if (particles.images.sign < 0).any():
        warnings.warn(
            f"{path}: the images have inverted contrast (blob/sign -1), which a STAR file cannot store: "
            "invert the images before RELION uses this file",
            stacklevel=2,
        )
    if isinstance(particles.source, StarSource):
        refuse_to_overwrite_inputs(path, [particles.source.path])
        blocks, table = _original_tables(particles, particles.source)
    else:
        table = _table_from_records(particles)
        blocks = {"optics": optics_table(particles.optics), "particles": table}
    table = table.drop(columns=ORIGIN_PX, errors="ignore")
    table[IMAGE] = _image_names(path.parent, particles, table[IMAGE].tolist())
    values = np.concatenate([rotations.to_euler(poses.rotation), poses.origin_A], axis=1)
    for name, column in zip([*ANGLES, *ORIGIN_A], values.T, strict=True):
        table[name] = np.char.mod(FLOAT_FORMAT, column)
    for name, column in (extra or {}).items():
        table[name] = _text(column)
    blocks["particles"] = table
    write_blocks(path, blocks)


def _require_columns(source: StarSource, split: bool) -> None:
    remedies = {
        "poses": "the particles have no 3D poses: run a 3D refinement first",
        "half sets": f"the particles are not split into half sets: {SPLIT_HINT}",
        "CTF": "the particles have no CTF: estimate it first",
    }
    missing = missing_columns(source)
    if not split:
        missing.pop("half sets", None)
    for purpose, names in missing.items():
        raise InputError(f"{source.path}: no column {', '.join(names)}: {remedies[purpose]}")


def _halves(path: Path, table: pd.DataFrame) -> npt.NDArray[np.int8]:
    half = float_column(path, table, HALF)
    bad = ~np.isin(half, (1, 2))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{path}: row {row + 1}: {HALF} is {half[row]:g}, must be 1 or 2: {SPLIT_HINT}")
    if len(np.unique(half)) < 2:
        raise InputError(
            f"{path}: {HALF} is {half[0]:g} in every row: give both half sets in one file, or {SPLIT_HINT}"
        )
    return half.astype(np.int8)


def _original_tables(particles: Particles, source: StarSource) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Return the tables of the original file, optics first, and the particle table with the rows of the particles."""
    rows = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))
    table = source.table.iloc[rows].reset_index(drop=True)
    other_tables = {
        name: block for name, block in source.blocks.items() if name not in (source.particles, source.optics)
    }
    if source.optics is not None:
        return {"optics": source.blocks[source.optics], "particles": table, **other_tables}, table
    table = table.drop(columns=RELION_30_OPTICS_COLUMNS, errors="ignore")
    table[GROUP] = (particles.group + 1).astype(str)
    return {"optics": optics_table(particles.optics), "particles": table, **other_tables}, table


def _table_from_records(particles: Particles) -> pd.DataFrame:
    """Build a RELION 3.1 particle table from the records, all values text, without stack names and poses."""
    columns = dict(
        zip(
            [*DEFOCUS, *OPTIONAL],
            [
                *particles.defocus_A.T,
                particles.defocus_angle_rad / DEGREE,
                particles.phase_shift_rad / DEGREE,
                particles.bfactor_A2,
                particles.scale,
            ],
            strict=True,
        )
    )
    table = pd.DataFrame({name: np.char.mod(FLOAT_FORMAT, column) for name, column in columns.items()})
    table[GROUP] = (particles.group + 1).astype(str)
    table[HALF] = particles.half.astype(str)
    names = [""] * len(particles)
    table[MICROGRAPH] = [particles.images.stacks[number].name for number in particles.images.stack]
    if isinstance(particles.source, CsSource):
        names = stack_names(particles.source, particles.uid)
        for name, texts in micrograph_columns(particles.source, particles.uid).items():
            table[name] = texts
    table[IMAGE] = [
        f"{index + 1:06d}@{relion_stack_name(name)}" for index, name in zip(particles.images.index, names, strict=True)
    ]
    return table


def _image_names(folder: Path, particles: Particles, original: list[str]) -> list[str]:
    """Return (n,) image names as seen from `folder`; an original name that is still valid is kept unchanged."""
    images = particles.images
    renamed: dict[int, str] = {}
    for number, row in zip(*np.unique(images.stack, return_index=True), strict=True):
        name = original[row].partition("@")[2].removesuffix(STACK_SUFFIX)
        new_name = stack_name_from_folder(folder, images.stacks[number], name)
        if new_name != name:
            renamed[int(number)] = relion_stack_name(new_name)
    return [
        f"{index + 1:06d}@{renamed[stack]}" if stack in renamed else name
        for name, stack, index in zip(original, images.stack.tolist(), images.index.tolist(), strict=True)
    ]


def _text(column: npt.NDArray[np.generic]) -> npt.NDArray[np.str_]:
    values = np.asarray(column)
    if values.dtype.kind in "bi":
        return values.astype(np.int64).astype(str)
    return np.char.mod(FLOAT_FORMAT, values) if values.dtype.kind == "f" else values.astype(str)
