"""Write FSC curves as EMDB's fsc.xml and as the tables of RELION's postprocess.star."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lrcore.io.paths import atomic_write
from lrcore.io.star_text import write_blocks
from lrcore.records import Fsc

KIND = "corrected"
"""The kind of curve that defines the resolution."""
COLUMNS = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}
"""Kind of curve → RELION's column; curves that a step lacks have no column."""
ORIGIN_RESOLUTION_A = 999.0
"""Resolution in Å that RELION writes for shell 0."""
DIGITS = "%.9g"


def write_fsc_xml(path: str | Path, curve: Fsc) -> None:
    """Write a curve in EMDB's format: one coordinate per shell, x in 1/Å, y the FSC.

    Parameters
    ----------
    path : file to write
    curve : FSC of each shell

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    title = f"lrwidgets FSC, {curve.kind}"
    root = ET.Element("fsc", title=title, xaxis="Resolution (A-1)", yaxis="Correlation Coefficient")
    for x, y in zip(curve.frequency.tolist(), curve.value.tolist(), strict=True):
        coordinate = ET.SubElement(root, "coordinate")
        for name, value in (("x", x), ("y", y)):
            # EMDB's schema has decimals, which have no exponent.
            text = np.format_float_positional(value, precision=9, fractional=False, trim="0")
            ET.SubElement(coordinate, name).text = text
    ET.indent(root)
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def write_fsc_star(path: str | Path, curves: Mapping[str, Fsc], general: Mapping[str, str] | None = None) -> None:
    """Write data_general and data_fsc as in RELION's postprocess.star.

    The B-factor and the FSC corrected by the solvent fraction are specific to RELION and are not written.

    Parameters
    ----------
    path : file to write
    curves : kind → curve, `corrected` among them
    general : label → value of further entries of data_general, such as the file names of the half maps

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    curve = curves[KIND]
    shells = np.arange(len(curve.frequency))
    first = {"rlnFinalResolution": DIGITS % curve.resolution_A()} | dict(general or {})
    resolution_A = np.divide(
        1.0, curve.frequency, out=np.full(len(shells), ORIGIN_RESOLUTION_A), where=curve.frequency > 0
    )
    table = {
        "rlnSpectralIndex": shells.astype(str),
        "rlnResolution": np.char.mod(DIGITS, curve.frequency),
        "rlnAngstromResolution": np.char.mod(DIGITS, resolution_A),
    }
    table |= {name: np.char.mod(DIGITS, curves[kind].value) for kind, name in COLUMNS.items() if kind in curves}
    write_blocks(Path(path), {"general": first, "fsc": pd.DataFrame(table)})
