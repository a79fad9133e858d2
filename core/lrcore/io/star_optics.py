"""Read optics groups from STAR files of RELION 3.0 to 5, and write them as a table of RELION 3.1."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import Int32
from lrcore.errors import InputError
from lrcore.io.checks import check_optics
from lrcore.io.cs_aberrations import Microscope, ZernikeAberrations, tilt_in_zernike
from lrcore.io.row_groups import group_identical_rows
from lrcore.io.star_table import StarSource, float_column, integer_column
from lrcore.records import Optics

GROUP = "rlnOpticsGroup"
NAME = "rlnOpticsGroupName"
PIXEL = "rlnImagePixelSize"
SIZE = "rlnImageSize"
MICROSCOPE = ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"]
TILT = ["rlnBeamTiltX", "rlnBeamTiltY"]
MAGNIFICATION = ["rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11"]
ODD, EVEN = "rlnOddZernike", "rlnEvenZernike"
PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"
DETECTOR = ["rlnDetectorPixelSize", "rlnMagnification"]
RELION_30_OPTICS_COLUMNS = [*MICROSCOPE, *TILT, PIXEL, "rlnPixelSize", *DETECTOR]
"""Columns of a RELION 3.0 particle table that RELION 3.1 keeps in its optics table."""

BoxOf = Callable[[int], int]
"""Function that returns the box in pixels of the image in a row, from its stack."""


def read_groups(source: StarSource, box_of: BoxOf) -> tuple[Int32, tuple[Optics, ...]]:
    """Return the optics group (n,) of every row and the groups in use; `box_of` is called if no column has the box.

    Raises InputError naming the group and field, or the row whose group is not in the table.
    """
    group, table = group_rows(source)
    used, first, compact = np.unique(group, return_index=True, return_inverse=True)
    boxes = [partial(box_of, int(row)) for row in first]
    optics = tuple(_optics(source.path, table, int(row), box) for row, box in zip(used, boxes, strict=True))
    return compact.astype(np.int32), optics


def group_rows(source: StarSource) -> tuple[Int32, pd.DataFrame]:
    """Return the row in the table of optics groups (n,) of every particle, and that table; values are not checked."""
    return _groups_of_relion_30(source) if source.optics is None else _groups_of_relion_31(source)


def pixel_sizes(path: Path, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the pixel size in Å of every row of a table, from the columns that have it."""
    column = next((name for name in (PIXEL, "rlnPixelSize") if name in table.columns), None)
    if column is not None:
        return float_column(path, table, column)
    if not set(DETECTOR) <= set(table.columns):
        raise InputError(f"{path}: no column {PIXEL} (nor {' and '.join(DETECTOR)}): add the pixel size in Å")
    size, magnification = (float_column(path, table, name) for name in DETECTOR)
    if (magnification <= 0).any():
        row = int(np.argmax(magnification <= 0)) + 1
        raise InputError(f"{path}: row {row}: rlnMagnification must be above 0: correct it")
    return size * 1e4 / magnification


def optics_table(optics: tuple[Optics, ...]) -> pd.DataFrame:
    """Format the groups as a RELION 3.1 data_optics table, all values text, numbered from 1."""
    merged = tilt_in_zernike(
        [ZernikeAberrations.of_optics(group) for group in optics], [Microscope.of_optics(group) for group in optics]
    )
    optics = tuple(
        dataclasses.replace(group, beam_tilt_mrad=one.beam_tilt_mrad, odd_zernike=one.odd_zernike)
        for group, one in zip(optics, merged, strict=True)
    )
    rows = [_row(number, group) for number, group in enumerate(optics, start=1)]
    table = pd.DataFrame(rows)
    if not any(group.odd_zernike for group in optics):
        table = table.drop(columns=ODD)
    elif not any(any(group.beam_tilt_mrad) for group in optics):
        # RELION 3.1 would take the polynomials of a beam tilt from these columns, not from the list.
        table = table.drop(columns=TILT)
    if not any(group.even_zernike for group in optics):
        table = table.drop(columns=EVEN)
    return table


def _groups_of_relion_30(source: StarSource) -> tuple[Int32, pd.DataFrame]:
    """Group the rows of RELION 3.0 by their microscope columns, in order of appearance; return groups and table."""
    path, table = source.path, source.table
    _require(path, table, MICROSCOPE)
    columns = {name: float_column(path, table, name) for name in MICROSCOPE}
    columns[PIXEL] = pixel_sizes(path, table)
    columns |= {name: float_column(path, table, name) for name in TILT if name in table.columns}
    first, group = group_identical_rows(columns.values())
    appearance = np.argsort(first)
    optics = pd.DataFrame({name: column[first[appearance]] for name, column in columns.items()})
    optics[NAME] = [f"opticsGroup{number + 1}" for number in range(len(optics))]
    rank = np.argsort(appearance)
    return rank[group].astype(np.int32), optics


def _groups_of_relion_31(source: StarSource) -> tuple[Int32, pd.DataFrame]:
    """Look up the row of data_optics of every particle (RELION 3.1 and later); return rows and table."""
    path, table, optics = source.path, source.table, source.blocks[source.optics or ""]
    _require(path, optics, [GROUP, *MICROSCOPE])
    _require(path, table, [GROUP])
    wanted = float_column(path, table, GROUP)
    listed = float_column(path, optics, GROUP)
    known = {number: row for row, number in enumerate(listed)}
    if len(known) < len(listed):
        repeated = next(number for row, number in enumerate(listed) if known[number] != row)
        raise InputError(f"{path}: data_optics lists optics group {repeated:g} twice: give each group its own number")
    group = pd.Series(wanted).map(known)
    if group.isna().any():
        row = int(np.argmax(group.isna().to_numpy()))
        raise InputError(
            f"{path}: row {row + 1}: optics group {wanted[row]:g} is not in data_optics: add it to that table"
        )
    return group.to_numpy(dtype=np.int32), optics


def _require(path: Path, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}, needed for the CTF: estimate the CTF first")


def _optics(path: Path, table: pd.DataFrame, row: int, box: Callable[[], int]) -> Optics:
    group = table.iloc[[row]]

    def number(column: str, default: float) -> float:
        return float(float_column(path, group, column)[0]) if column in group.columns else default

    return check_optics(
        path,
        Optics(
            name=str(group[NAME].iloc[0]) if NAME in group.columns else f"opticsGroup{row + 1}",
            voltage_kV=number(MICROSCOPE[0], 0.0),
            cs_mm=number(MICROSCOPE[1], 0.0),
            amplitude_contrast=number(MICROSCOPE[2], 0.0),
            pixel_size_A=float(pixel_sizes(path, group)[0]),
            box=int(integer_column(path, group, SIZE)[0]) if SIZE in group.columns else box(),
            beam_tilt_mrad=(number(TILT[0], 0.0), number(TILT[1], 0.0)),
            odd_zernike=_coefficients(path, group, ODD),
            even_zernike=_coefficients(path, group, EVEN),
            mag_matrix=(
                number(MAGNIFICATION[0], 1.0),
                number(MAGNIFICATION[1], 0.0),
                number(MAGNIFICATION[2], 0.0),
                number(MAGNIFICATION[3], 1.0),
            ),
            ctf_premultiplied=_truth(path, group, PREMULTIPLIED),
        ),
    )


def _truth(path: Path, table: pd.DataFrame, column: str) -> bool:
    """Return 0, 1, or a truth value as scripts write it, of the only row; False without the column."""
    words = {"true": True, "false": False}
    text = str(table[column].iloc[0]).lower() if column in table.columns else "0"
    return words[text] if text in words else text != "0" and bool(float_column(path, table, column)[0])


def _coefficients(path: Path, table: pd.DataFrame, column: str) -> tuple[float, ...]:
    return parse_coefficients(path, column, table[column].iloc[0]) if column in table.columns else ()


def parse_coefficients(path: Path, column: str, value: object) -> tuple[float, ...]:
    """Return the numbers of a list such as [0.1,0.2]. Raises InputError naming the column if it is none."""
    text = str(value)
    numbers = text.strip("[] ")
    try:
        values = tuple(float(number) for number in numbers.split(",")) if numbers else ()
        if not all(map(math.isfinite, values)):
            raise ValueError(text)
        return values
    except ValueError as error:
        raise InputError(f"{path}: {column} is '{text}': it must be a list like [0.1,0.2]") from error


def _row(number: int, group: Optics) -> dict[str, str]:
    values = dataclasses.asdict(group)
    return {
        GROUP: str(number),
        NAME: group.name,
        **{
            name: repr(values[key])
            for name, key in zip(MICROSCOPE, ("voltage_kV", "cs_mm", "amplitude_contrast"), strict=True)
        },
        PIXEL: repr(group.pixel_size_A),
        SIZE: str(group.box),
        "rlnImageDimensionality": "2",
        **{name: repr(value) for name, value in zip(TILT, group.beam_tilt_mrad, strict=True)},
        ODD: format_coefficients(group.odd_zernike),
        EVEN: format_coefficients(group.even_zernike),
        **{name: repr(value) for name, value in zip(MAGNIFICATION, group.mag_matrix, strict=True)},
        PREMULTIPLIED: str(int(group.ctf_premultiplied)),
    }


def format_coefficients(values: tuple[float, ...]) -> str:
    """Format Zernike coefficients as RELION does, with all their digits."""
    return "[" + ",".join(repr(value) for value in values) + "]"
