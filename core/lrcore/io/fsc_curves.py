"""FSC curves for others: EMDB's fsc.xml, and the tables that RELION's post-processing writes."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lrcore.io.paths import atomic_write
from lrcore.io.star_text import write_blocks
from lrcore.records import Fsc

KIND = "corrected"
"""The curve that stands for the resolution."""
COLUMNS = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}
"""Our name of a curve → RELION's; columns of curves that a step has not are left out."""
ORIGIN_RESOLUTION_A = 999.0
"""What RELION writes for the resolution of shell 0."""
DIGITS = "%.9g"


def write_fsc_xml(path: str | Path, curve: Fsc) -> None:
    """Write a curve in EMDB's form: x is 1/Å, y the FSC, a coordinate for each shell. Raises InputError if it fails."""
    title = f"lrwidgets FSC, {curve.kind}"
    root = ET.Element("fsc", title=title, xaxis="Resolution (A-1)", yaxis="Correlation Coefficient")
    for x, y in zip(curve.frequency.tolist(), curve.value.tolist(), strict=True):
        coordinate = ET.SubElement(root, "coordinate")
        ET.SubElement(coordinate, "x").text = DIGITS % x
        ET.SubElement(coordinate, "y").text = DIGITS % y
    ET.indent(root)
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def write_fsc_star(path: str | Path, curves: Mapping[str, Fsc], general: Mapping[str, str] | None = None) -> None:
    """Write data_general and data_fsc as RELION's postprocess.star has them. Raises InputError if it fails.

    curves: by kind, `corrected` among them. general: more of data_general, such as names of the half maps. The B-factor
    and the corrected FSC by the fraction of the mask are RELION's own, and left out.
    """
    curve = curves[KIND]
    shells = np.arange(len(curve.frequency))
    first = {"rlnFinalResolution": DIGITS % curve.resolution_A()} | dict(general or {})
    away = np.divide(1.0, curve.frequency, out=np.full(len(shells), ORIGIN_RESOLUTION_A), where=curve.frequency > 0)
    table = {
        "rlnSpectralIndex": shells.astype(str),
        "rlnResolution": np.char.mod(DIGITS, curve.frequency),
        "rlnAngstromResolution": np.char.mod(DIGITS, away),
    }
    table |= {name: np.char.mod(DIGITS, curves[kind].value) for kind, name in COLUMNS.items() if kind in curves}
    write_blocks(Path(path), {"general": first, "fsc": pd.DataFrame(table)})
