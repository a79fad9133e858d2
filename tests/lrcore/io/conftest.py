"""Small particle sets made on the spot: an image stack with a STAR table, or the same as CryoSPARC files."""

from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

BOX = 16
COUNT = 24
PIXEL = 1.5

Columns = dict[str, list[object]]


def optics_columns() -> Columns:
    return {
        "rlnOpticsGroup": [1, 2],
        "rlnOpticsGroupName": ["first", "second"],
        "rlnVoltage": [300, 200],
        "rlnSphericalAberration": [2.7, 1.4],
        "rlnAmplitudeContrast": [0.1, 0.07],
        "rlnImagePixelSize": [PIXEL, PIXEL],
        "rlnImageSize": [BOX, BOX],
        "rlnImageDimensionality": [2, 2],
    }


def particle_columns() -> Columns:
    rng = np.random.default_rng(5)
    angles = rng.uniform([-180, 0, -180], [180, 180, 180], (COUNT, 3)).round(6).T.tolist()
    origins = rng.normal(0, 3, (COUNT, 2)).round(6).T.tolist()
    defocus = rng.uniform(8000, 20000, COUNT).round(2)
    return {
        "rlnImageName": [f"{i + 1:06d}@stacks/particles.mrcs" for i in range(COUNT)],
        "rlnMicrographName": [f"007{i // 8}" for i in range(COUNT)],
        "rlnOpticsGroup": [1 + i % 2 for i in range(COUNT)],
        "rlnDefocusU": defocus.tolist(),
        "rlnDefocusV": (defocus - 300).round(2).tolist(),
        "rlnDefocusAngle": rng.uniform(0, 180, COUNT).round(3).tolist(),
        "rlnPhaseShift": [0.0] * COUNT,
        "rlnCtfBfactor": [20.0] * COUNT,
        "rlnCtfScalefactor": [0.9] * COUNT,
        **dict(zip(["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"], angles, strict=True)),
        **dict(zip(["rlnOriginXAngst", "rlnOriginYAngst"], origins, strict=True)),
        "rlnRandomSubset": [1 + (i // 3) % 2 for i in range(COUNT)],
        "someUnknownColumn": [f"keep-{i}" for i in range(COUNT)],
    }


def old_columns() -> Columns:
    """The same particles as a table of RELION 3.0."""
    columns = particle_columns()
    for name in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"):
        columns[name] = [optics_columns()[name][group - 1] for group in columns["rlnOpticsGroup"]]
    columns["rlnMagnification"] = [10000.0] * COUNT
    columns["rlnDetectorPixelSize"] = [PIXEL] * COUNT
    for axis in "XY":
        columns[f"rlnOrigin{axis}"] = [value / PIXEL for value in columns.pop(f"rlnOrigin{axis}Angst")]
    del columns["rlnOpticsGroup"]
    return columns


def star_block(name: str, columns: Columns) -> str:
    head = [f"data_{name}", "", "loop_", *(f"_{column} #{i}" for i, column in enumerate(columns, 1))]
    rows = [" ".join(str(value) for value in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join([*head, *rows, "", ""])


class Maker:
    """Writes a small particle set into a folder and returns its table."""

    box, count, pixel = BOX, COUNT, PIXEL

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stack(self, name: str = "stacks/particles.mrcs", **change: object) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (change.get("count", COUNT), change.get("box", BOX), change.get("box", BOX))
        data = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        mrcfile.write(path, data, voxel_size=change.get("voxel", PIXEL), overwrite=True)
        return path

    def star(
        self,
        name: str = "particles.star",
        optics: Columns | None = None,
        without: tuple[str, ...] = (),
        **change: list[object],
    ) -> Path:
        columns = {key: value for key, value in (particle_columns() | change).items() if key not in without}
        groups = {key: value for key, value in (optics or optics_columns()).items() if key not in without}
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# version 30001\n\n" + star_block("optics", groups) + "\n" + star_block("particles", columns))
        return path

    def old_star(self, name: str = "old.star") -> Path:
        path = self.folder / name
        path.write_text(star_block("images", old_columns()))
        return path

    def columns(self) -> Columns:
        return particle_columns()

    def optics(self) -> Columns:
        return optics_columns()


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """`make.stack()` and `make.star(...)` write a small particle set into a fresh folder."""
    return Maker(tmp_path)


@pytest.fixture
def sparse_stack() -> Callable[[Path, int, int], None]:
    """`sparse_stack(path, count, box)` makes a stack of zeros (mode 0) that takes no room on disk."""

    def write(path: Path, count: int, box: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(path, np.zeros((1, box, box), np.int8)) as file:
            file.header.nz = file.header.mz = count
        with path.open("r+b") as file:
            file.truncate(1024 + count * box * box)

    return write
