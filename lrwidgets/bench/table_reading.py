"""Benchmark reading large particle tables: time and memory, compared with plain readers of such files.

`python -m lrwidgets.bench.table_reading READER FILE` reads one file and ends; that process is measured.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lrcore.io import read_particles
from lrcore.io.image_stack_writer import write_image_stack
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement
from lrwidgets.bench.subprocesses import CompletedCommand, run_command

PER_STACK = 250
"""Images per stack."""
QUICKEST_OF = 3
"""Number of runs, of which the fastest counts."""
BOX = 4
PIXEL_A = 0.885
OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographOriginalPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
_rlnImagePixelSize #7
_rlnImageSize #8
_rlnImageDimensionality #9
"""
NUMBERS = {
    "CoordinateX": (0, 4000),
    "CoordinateY": (0, 4000),
    "AutopickFigureOfMerit": (5, 20),
    "AnglePsi": (-180, 180),
    "CtfMaxResolution": (3, 6),
    "CtfFigureOfMerit": (0, 0.2),
    "DefocusU": (8000, 20000),
    "DefocusV": (8000, 20000),
    "DefocusAngle": (0, 180),
    "CtfBfactor": (0, 0),
    "CtfScalefactor": (1, 1),
    "PhaseShift": (0, 0),
    "AngleRot": (-180, 180),
    "AngleTilt": (0, 180),
    "OriginXAngst": (-9, 9),
    "OriginYAngst": (-9, 9),
    "NormCorrection": (0.4, 0.6),
    "LogLikeliContribution": (2e5, 3e5),
    "MaxValueProbDistribution": (0, 1),
}
"""Columns of numbers (rln…) that RELION 3.1 writes after a refinement → range of their values."""
WHOLE = {"ClassNumber": 1, "NrOfSignificantSamples": 40, "GroupNumber": 900, "RandomSubset": 2}
"""Columns of whole numbers → their maximum; the minimum is 1."""
READERS: dict[str, Callable[[str], object]] = {
    "lrwidgets": read_particles,
    "starfile": lambda path: import_module("starfile").read(path),
    "numpy": lambda path: np.array(np.load(path, allow_pickle=False)),
}


def reading(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure a RELION 3.1 table with 26 columns and a CryoSPARC table with 30 fields; their stacks are empty."""
    rows = 20_000 if options.quick else 1_000_000
    for kind, make, peer in (("STAR", write_star_table, "starfile"), (".cs", write_cs_table, "numpy")):
        options.report(f"writing a {kind} table of {rows} rows")
        path = make(options.folder / kind.strip("."), rows)
        for reader in ("lrwidgets", peer) if find_spec(peer) else ("lrwidgets",):
            options.report(f"{reader} reads it")
            done = fastest_read_seconds(reader, path, QUICKEST_OF)
            parameters = {"kind": kind, "rows": rows, "reader": reader, "quickest_of": QUICKEST_OF}
            yield Measurement("reading", "time", float(done.lines[-1][1]), "s", parameters)
            yield Measurement("reading", "peak resident memory", done.peak_MB, "MB", parameters)


def fastest_read_seconds(reader: str, path: Path, runs: int) -> CompletedCommand:
    """Return the fastest of some runs of `read_seconds`."""
    return min((read_seconds(reader, path) for _ in range(runs)), key=lambda done: float(done.lines[-1][1]))


def read_seconds(reader: str, path: Path) -> CompletedCommand:
    """Read a file in a new process, whose last line of output is the time in seconds without imports."""
    return run_command([sys.executable, "-W", "ignore", "-m", "lrwidgets.bench.table_reading", reader, str(path)])


def write_star_table(folder: Path, rows: int) -> Path:
    """Write a STAR file with lines as long as RELION's, and the stacks that it names; return its path."""
    rng = np.random.default_rng(1)
    names = _stacks(folder, rows)
    path = folder / "particles.star"
    columns = [*NUMBERS, "ImageName", "MicrographName", "OpticsGroup", *WHOLE]
    with path.open("w") as file:
        file.write(f"{OPTICS}opticsGroup1 1 {PIXEL_A} 300.0 2.7 0.1 {PIXEL_A} {BOX} 2\n\n\n# version 30001\n\n")
        file.write("data_particles\n\nloop_\n" + "".join(f"_rln{name} #{i}\n" for i, name in enumerate(columns, 1)))
        for first in range(0, rows, PER_STACK):
            count = min(PER_STACK, rows - first)
            name = names[first // PER_STACK]
            floats = np.stack([rng.uniform(*between, count) for between in NUMBERS.values()], axis=1)
            whole = np.stack([rng.integers(1, most + 1, count) for most in WHOLE.values()], axis=1)
            line = " ".join(["%12.6f"] * len(NUMBERS)) + f" %06d@{name} {name[:-5]}.mrc %12d %12d %12d %12d %12d \n"
            file.writelines(line % (*floats[i], i + 1, 1, *whole[i]) for i in range(count))
    return path


def write_cs_table(folder: Path, rows: int) -> Path:
    """Write the same as a .cs file with the fields of CryoSPARC's refinements; return its path."""
    rng = np.random.default_rng(1)
    names = np.array(_stacks(folder, rows), "S")
    sizes = {
        "alignments3D": {
            "pose": 3,
            "shift": 2,
            "psize_A": 1,
            "error": 1,
            "alpha": 1,
            "pose_ess": 1,
            "shift_ess": 1,
            "class_ess": 1,
            "cross_cor": 1,
            "image_pow": 1,
        },
        "blob": {"psize_A": 1, "sign": 1},
        "ctf": {
            "accel_kv": 1,
            "cs_mm": 1,
            "amp_contrast": 1,
            "df1_A": 1,
            "df2_A": 1,
            "df_angle_rad": 1,
            "phase_shift_rad": 1,
            "scale": 1,
            "bfactor": 1,
            "shift_A": 2,
            "tilt_A": 2,
            "trefoil_A": 2,
            "tetra_A": 4,
            "anisomag": 4,
        },
    }
    floats = {f"{slot}/{name}": size for slot, names in sizes.items() for name, size in names.items()}
    fields = [
        ("uid", "<u8"), ("blob/path", names.dtype), ("blob/idx", "<u4"), ("blob/shape", "<u4", 2),
        ("alignments3D/split", "<u4"), ("ctf/exp_group_id", "<u4"), ("ctf/type", "S8"),
        *((name, "<f4", size) if size > 1 else (name, "<f4") for name, size in floats.items()),
    ]  # fmt: skip
    table = np.zeros(rows, fields)
    table["uid"] = rng.permutation(rows).astype(np.uint64) * 2**40 + 17
    table["blob/path"], table["blob/idx"] = names[np.arange(rows) // PER_STACK], np.arange(rows) % PER_STACK
    table["blob/shape"], table["alignments3D/split"] = BOX, rng.integers(0, 2, rows)
    table["alignments3D/pose"], table["alignments3D/shift"] = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))
    table["alignments3D/psize_A"] = table["blob/psize_A"] = PIXEL_A
    table["ctf/accel_kv"], table["ctf/cs_mm"], table["ctf/amp_contrast"] = 300, 2.7, 0.1
    table["ctf/df1_A"] = table["ctf/df2_A"] = rng.uniform(8000, 20000, rows)
    table["ctf/scale"] = table["blob/sign"] = 1
    path = folder / "particles.cs"
    with path.open("wb") as file:
        np.save(file, table)
    return path


def _stacks(folder: Path, rows: int) -> list[str]:
    """Write sparse, empty stacks for so many images; return their names, as long as those of real projects."""
    (folder / "Polish" / "job028" / "Movies").mkdir(parents=True)
    names = [f"Polish/job028/Movies/20170629_{i:05d}_frameImage.mrcs" for i in range(-(-rows // PER_STACK))]
    for name in names:
        write_image_stack(folder / name, PER_STACK, BOX, PIXEL_A, ())
        os.truncate(folder / name, 1024 + PER_STACK * BOX**2 * 4)
    return names


if __name__ == "__main__":
    start = time.perf_counter()
    table = READERS[sys.argv[1]](sys.argv[2])
    print(time.perf_counter() - start)
