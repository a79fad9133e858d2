"""Particle tables made at random, there and back: STAR → .cs → STAR and .cs → STAR → .cs keep every field."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrcore.imaging import rotations
from lrcore.io import convert, cs_particles, cs_table, star_table, star_text
from tests.fuzzing import fuzz_examples
from tests.lrcore.io.test_convert import cryosparc_there_and_back

MADE = fuzz_examples(40)
ANGLES = dict(zip(convert.ANGLES, ((-180, 180), (0, 180), (-180, 180)), strict=True))
NUMBERS = {
    **ANGLES,
    **dict.fromkeys(convert.ORIGIN_A, (-50, 50)),
    "rlnDefocusU": (-5000, 60000),
    "rlnDefocusV": (-5000, 60000),
    "rlnDefocusAngle": (-180, 180),
    "rlnPhaseShift": (0, 180),
    "rlnCtfBfactor": (-100, 300),
    "rlnCtfScalefactor": (0, 2),
    "rlnCoordinateX": (0, 8000),
    "rlnAutopickFigureOfMerit": (-9, 9),
}
OF_GROUP = {
    "rlnVoltage": (80, 300),
    "rlnSphericalAberration": (0.1, 3),
    "rlnAmplitudeContrast": (0.01, 0.3),
    "rlnBeamTiltX": (-5, 5),
    "rlnBeamTiltY": (-5, 5),
    **dict.fromkeys(convert.MAGNIFICATION, (-1.1, 1.1)),
    "rlnMicrographOriginalPixelSize": (0.5, 2),
}
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=9).filter(
    lambda word: word[0] != ">"  # which begins a path in an export of CryoSPARC, and is taken off
)


def decimals(rng: np.random.Generator, between: tuple[float, float], n: int) -> list[str]:
    """Numbers as programs write them: with six decimals, in full, or whole."""
    kind = rng.choice([".6f", ".9g", ".0f"], p=[0.6, 0.3, 0.1])
    return [f"{x:{kind}}" for x in rng.uniform(*between, n)]


@st.composite
def star_tables(draw: st.DrawFn) -> dict[str, pd.DataFrame]:
    """Particles of up to three optics groups, whose numbers are in any order, and columns that CryoSPARC lacks."""
    groups, n = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = rng.permutation(np.arange(1, 9))[:groups].tolist()
    words = draw(st.lists(WORDS, min_size=3, max_size=6))
    optics: dict[str, Any] = {"rlnOpticsGroup": [str(number) for number in numbers]}
    optics["rlnOpticsGroupName"] = [f"{words[0]}{number}" for number in numbers]
    optics |= {name: decimals(rng, between, groups) for name, between in OF_GROUP.items()}
    optics |= {"rlnImagePixelSize": ["1.25"] * groups, "rlnImageSize": ["64"] * groups}
    if draw(st.booleans()):
        optics["rlnOddZernike"] = rng.choice(["[]", "[0.1,-2e-05]"], groups).tolist()
    rows = [*range(groups), *rng.integers(0, groups, n).tolist()]
    n = len(rows)
    stacks = rng.choice(["a/b.mrcs", "c.mrc:mrcs", "é.mrcs"], n)
    table: dict[str, Any] = {
        "rlnImageName": [f"{i + 1:06d}@{stack}" for i, stack in enumerate(stacks)],
        "rlnOpticsGroup": [str(numbers[row]) for row in rows],
        "rlnRandomSubset": rng.choice(["1", "2"], n).tolist(),
        "rlnMicrographName": rng.choice(words, n).tolist(),
        "someOther": rng.choice(words, n).tolist(),
    }
    table |= {name: decimals(rng, between, n) for name, between in NUMBERS.items()}
    left_out = draw(st.sets(st.sampled_from(["rlnPhaseShift", "rlnCtfBfactor", "rlnCoordinateX", "someOther"])))
    kept = {name: table[name] for name in rng.permutation(sorted(set(table) - left_out)).tolist()}
    return {"optics": pd.DataFrame(optics, dtype="str"), "particles": pd.DataFrame(kept, dtype="str")}


def near(before: pd.Series, after: pd.Series, name: str) -> None:
    """Numbers to what float32 keeps of the largest of them; all else to the letter."""
    if name in NUMBERS or name in OF_GROUP:
        one, other = before.astype(float), after.astype(float)
        small = 2e-7 if name in convert.MAGNIFICATION else 1e-9  # kept as M − I
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=small, err_msg=name)
    else:
        assert after.tolist() == before.tolist(), name


@pytest.mark.slow
@MADE
@given(blocks=star_tables())
def test_star_comes_back(tmp_path_factory: pytest.TempPathFactory, blocks: dict[str, pd.DataFrame]) -> None:
    folder = tmp_path_factory.mktemp("made")
    there, back = star_there_and_back(folder, blocks)
    turned = [rotations.from_euler(one[convert.ANGLES].to_numpy(float)) for one in (there.table, back.table)]
    assert rotations.rotation_angle_deg(*turned).max() < 1e-5
    for name in set(there.table.columns) - set(ANGLES):
        near(there.table[name], back.table[name], name)
    optics = back.blocks["optics"].set_index("rlnOpticsGroup").loc[blocks["optics"]["rlnOpticsGroup"]]
    for name in blocks["optics"].columns.drop("rlnOpticsGroup"):
        near(blocks["optics"][name], optics[name], name)
    np.testing.assert_array_equal(there.uid, back.uid)


def star_there_and_back(folder: Path, blocks: dict[str, pd.DataFrame]) -> tuple[Any, Any]:
    star_text.write_blocks(folder / "a.star", blocks)
    there = star_table.read_source(folder / "a.star")
    table = convert.star_to_cs(there)
    cs_particles.write_table(folder / "b.cs", table, cs_particles.slot_types(table))
    star_text.write_blocks(folder / "c.star", convert.cs_to_star(cs_table.read_source(folder / "b.cs")))
    return there, star_table.read_source(folder / "c.star")


FIELDS: dict[str, tuple[float, float, int]] = {
    "alignments3D/shift": (-20, 20, 2),
    "ctf/df1_A": (-5000, 60000, 1),
    "ctf/df2_A": (-5000, 60000, 1),
    "ctf/df_angle_rad": (-3, 3, 1),
    "ctf/phase_shift_rad": (0, 3, 1),
    "ctf/bfactor": (-100, 300, 1),
    "ctf/scale": (0, 2, 1),
    "ctf/tilt_A": (-5000, 5000, 2),
    "ctf/trefoil_A": (-5000, 5000, 2),
    "ctf/tetra_A": (-5000, 5000, 4),
    "ctf/anisomag": (-0.1, 0.1, 4),
    "ctf/shift_A": (-5, 5, 2),
    "alignments3D/error": (0, 1e6, 1),
    "location/center_x_frac": (0, 1, 1),
    "location/center_y_frac": (0, 1, 1),
    "blob/sign": (-1, 1, 1),
}


@st.composite
def cryosparc_tables(draw: st.DrawFn) -> np.ndarray:
    """Particles of CryoSPARC with some of its fields left out, each of two exposure groups."""
    n, seed = draw(st.integers(1, 8)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    left_out = draw(st.sets(st.sampled_from(sorted(set(FIELDS) - {"alignments3D/shift"}))))
    paths = draw(st.sampled_from([[b"J1/a.mrc", b"J1/b.mrcs"], [b">J1/a.mrc", b"J1/b.mrcs"]]))
    columns: dict[str, Any] = {
        "uid": rng.integers(0, 2**64 - 1, n, np.uint64, endpoint=True),
        "blob/path": np.array(paths)[rng.integers(0, 2, n)],
        "blob/idx": rng.integers(0, 2**32 - 1, n, np.uint32),
        "blob/psize_A": np.full(n, 1.1, "f4"),
        "blob/shape": np.full((n, 2), 64, "u4"),
        "alignments3D/pose": turned(rng, n),
        "alignments3D/psize_A": np.full(n, draw(st.sampled_from([1.1, 2.2])), "f4"),
        "alignments3D/split": rng.integers(0, 2, n).astype("u4"),
        "ctf/exp_group_id": rng.integers(0, 2, n).astype("u4"),
        "ctf/accel_kv": np.full(n, 300, "f4"),
        "ctf/cs_mm": np.full(n, 2.7, "f4"),
        "ctf/amp_contrast": np.full(n, 0.1, "f4"),
        "ctf/type": np.full(n, b"spline"),
        "location/micrograph_path": np.array([b"M/1.mrc", b">M/2.mrc"])[rng.integers(0, 2, n)],
        "location/micrograph_shape": np.full((n, 2), (4000, 6000), "u4"),
        "pick_stats/ncc_score": rng.normal(size=n).astype("f8"),
    }
    for name, (low, high, size) in FIELDS.items():
        if name not in left_out:
            columns[name] = rng.uniform(low, high, (n, size) if size > 1 else n).astype("f4")
    table = np.zeros(n, [(name, values.dtype, values.shape[1:]) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    return table


def turned(rng: np.random.Generator, n: int) -> np.ndarray:
    angles = rng.uniform([-180, 0, -180], [180, 180, 180], (n, 3))
    return rotations.to_cryosparc(rotations.from_euler(angles)).astype("f4")


@MADE
@given(table=cryosparc_tables())
def test_cryosparc_comes_back(tmp_path_factory: pytest.TempPathFactory, table: np.ndarray) -> None:
    back = cryosparc_there_and_back(tmp_path_factory.mktemp("made"), table)
    assert set(table.dtype.names) <= set(back.dtype.names)
    for name in table.dtype.names:
        assert table.dtype[name].base.kind == back.dtype[name].base.kind, name
        if name == convert.POSE:
            assert (
                rotations.rotation_angle_deg(*(rotations.from_cryosparc(one[name]) for one in (table, back))).max()
                < 1e-5
            )
        elif table.dtype[name].base.kind == "S":
            assert back[name].tolist() == table[name].tolist(), name
        else:
            small = 2e-7 * np.abs(table[name]).max(initial=0.0) if table.dtype[name].base.kind == "f" else 0
            np.testing.assert_allclose(back[name], table[name], rtol=1e-6, atol=small, err_msg=name)
