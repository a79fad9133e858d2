"""RELION's postprocessing and ours on the same half maps: FSC curves, B-factor, local resolution."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import starfile

from lrcore.io import read_volume
from lrcore.maps.fsc import fsc_curves, masked_fsc, randomisation_shell
from lrcore.maps.local_resolution import LocalResolution, estimate_local_resolution
from lrcore.maps.sharpening import figure_of_merit, fit_guinier, sharpen
from lrcore.records import Fsc, Progress, Volume

pytestmark = pytest.mark.slow
CURVE = "rlnFourierShellCorrelation"
KINDS = {"unmasked": "UnmaskedMaps", "masked": "MaskedMaps"}
FIT_A = (10.0, 7.0)


@dataclass(frozen=True)
class Case:
    """two_body's half maps and masks, and what relion_postprocess makes of them."""

    first: Volume
    second: Volume
    mask: Volume
    whole: Volume
    curves: pd.DataFrame
    general: dict[str, float]
    sharpened: Volume
    local: Volume


@pytest.fixture(scope="module")
def case(
    test_data: Callable[[str], Path], relion: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Case:
    data, out = test_data("two_body"), tmp_path_factory.mktemp("postprocess")
    program = relion("relion_postprocess")
    halves = [data / f"consensus_half{number}.mrc" for number in (1, 2)]
    common = [program, "--i", halves[0], "--i2", halves[1], "--angpix", "2"]
    for name, more in {
        "sharp": [
            "--mask",
            data / "mask_b.mrc",
            "--auto_bfac",
            "--autob_lowres",
            FIT_A[0],
            "--autob_highres",
            FIT_A[1],
        ],
        "local": ["--locres"],
    }.items():
        (out / name).mkdir()  # where it puts figures, which need Ghostscript and may fail
        subprocess.run(
            [str(word) for word in (*common, "--o", out / name, *more)], cwd=out, capture_output=True, check=False
        )
    star = starfile.read(out / "sharp.star")
    volumes = [read_volume(path, 2.0) for path in (*halves, data / "mask_b.mrc", data / "mask_full.mrc")]
    maps = [read_volume(out / name, 2.0) for name in ("sharp.mrc", "local_locres.mrc")]
    return Case(*volumes, star["fsc"], star["general"], *maps)


def theirs(case: Case, kind: str) -> np.ndarray:
    return case.curves[CURVE + kind].to_numpy()


def each_sample_once(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """FSC over the full FT: the plane kx = 0 of a half-complex one counts half as much there as RELION has it."""
    a, b = (scipy.fft.fftn(data.astype(np.float64)) for data in (first, second))
    n = len(first)
    axis = np.fft.fftfreq(n, 1 / n) ** 2
    shell = np.rint(np.sqrt(axis[:, None, None] + axis[:, None] + axis)).astype(int).ravel()
    cross, one, two = (
        np.bincount(shell, product.ravel())[: n // 2 + 1]
        for product in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    return cross / np.sqrt(one * two)


def test_curves_are_relions(case: Case) -> None:
    ours = fsc_curves(case.first, case.second, case.mask)
    for kind, column in KINDS.items():
        mask = 1.0 if kind == "unmasked" else case.mask.data
        full = each_sample_once(case.first.data * mask, case.second.data * mask)
        off = np.abs(ours[kind].value - theirs(case, column)).max()
        cost = np.abs(full - ours[kind].value)
        print(f"{kind}: largest difference {off:.1e}; each sample once: {cost.max():.4f}, mean {cost.mean():.4f}")
        assert off < 1e-5
        # How the samples are counted is all that could differ, and it is next to nothing.
        assert 1e-4 < cost.max() < 0.006
        assert abs(192 / Fsc(kind, ours[kind].frequency, full).resolution_A() - 192 / ours[kind].resolution_A()) < 0.2


def test_phases_are_randomised_from_the_same_shell_and_to_the_same_effect(case: Case) -> None:
    ours = [fsc_curves(case.first, case.second, case.mask, seed) for seed in range(6)]
    start = randomisation_shell(ours[0]["unmasked"].value)
    assert 2.0 * 96 / start == pytest.approx(case.general["rlnRandomiseFrom"], abs=0.01)
    random = np.array([curves["randomised"].value for curves in ours])
    reference = (
        theirs(case, "PhaseRandomizedMaskedMaps")
        if CURVE + "PhaseRandomizedMaskedMaps" in case.curves
        else (case.curves["rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps"].to_numpy())
    )
    spread = random.std(axis=0).mean()
    off = (reference - random.mean(axis=0))[start:]
    print(f"randomised: RELION less our mean {off.mean():.4f} ± {off.std():.4f}, our seeds differ by {spread:.4f}")
    # Before, they differ by what the mask lets in of the random phases beyond.
    assert np.abs(random[:, : start - 2] - reference[: start - 2]).max() < 0.006
    assert abs(off.mean()) < 3 * spread / np.sqrt(4)
    assert off.std() < 2.5 * spread
    tail = (
        np.array([curves["corrected"].value for curves in ours])[:, start + 2 :]
        - theirs(case, "Corrected")[start + 2 :]
    )
    assert abs(tail.mean()) < 0.03


def test_resolutions_are_within_a_shell(case: Case) -> None:
    """The corrected curve depends on the random phases: ours is the median over seeds, RELION's is one draw."""
    ours = [fsc_curves(case.first, case.second, case.mask, seed) for seed in range(6)]
    for kind, column in {**KINDS, "corrected": "Corrected"}.items():
        reference = Fsc(kind, ours[0][kind].frequency, theirs(case, column))
        for threshold in (0.143, 0.5):
            found = [192 / curves[kind].resolution_A(threshold) for curves in ours]
            shell = 192 / reference.resolution_A(threshold)
            print(f"{kind} at {threshold}: shell {np.round(found, 2)}, RELION {shell:.2f}")
            assert abs(np.median(found) - shell) < 1
    final = 192 / case.general["rlnFinalResolution"]
    assert abs(192 / ours[0]["masked"].resolution_A() - final) < 1


def test_the_bfactor_is_relions(case: Case) -> None:
    """Where RELION fits from and to; its own default goes on to the first FSC below 0, through noise."""
    curve = Fsc("corrected", fsc_curves(case.first, case.second)["unmasked"].frequency, theirs(case, "Corrected"))
    mean = 0.5 * (case.first.data + case.second.data)
    same = fit_guinier(mean, curve, *FIT_A)
    own = fit_guinier(mean, fsc_curves(case.first, case.second, case.mask)["corrected"])
    reference = case.general["rlnBfactorUsedForSharpening"]
    print(f"B from {FIT_A[0]:g} to {FIT_A[1]:g} Å: {same.bfactor_A2:.1f} Å², RELION {reference:.1f}", end="; ")
    print(f"as we fit, to {own.range_A[1]:.2f} Å: {own.bfactor_A2:.1f}")
    assert same.bfactor_A2 == pytest.approx(reference, rel=0.1)
    # With no low-pass, which RELION does not make here unless asked to.
    map_ = sharpen(mean, 2.0, reference, figure_of_merit(curve.value))
    inside = case.mask.data > 0.5
    voxels = np.corrcoef(map_[inside], case.sharpened.data[inside])[0, 1]
    seen = figure_of_merit(curve.value) > 0
    alike = masked_fsc(map_, case.sharpened.data, None)[seen]
    print(f"the sharpened maps: FSC {alike.min():.4f} at least, correlation of voxels in the mask {voxels:.4f}")
    # Gains are linear between our shells, and steps between theirs.
    assert alike.min() > 0.95
    assert voxels > 0.98


def measured(case: Case, mask: Volume, **how: float) -> LocalResolution:
    events = [e for e in estimate_local_resolution(case.first, case.second, mask, **how) if not isinstance(e, Progress)]
    return events[0]


def test_local_resolution_beside_relions(case: Case) -> None:
    """RELION looks through spheres of 25 + 2 · 12.5 Å, at points 25 Å apart, with no mask around them."""
    everywhere = Volume(np.ones_like(case.mask.data), 2.0)
    inside = case.whole.data > 0.5
    reference = case.local.data[inside]
    bodies = {"body A": inside & (case.mask.data < 0.1), "body B": inside & (case.mask.data > 0.9)}
    rows = {
        "RELION": case.local.data,
        "the same windows": measured(case, everywhere, window_A=50.0, sampling_A=25.0).map.data,
        "default, in the mask": measured(case, case.whole).map.data,
    }
    for name, data in rows.items():
        quartiles = ", ".join(f"{value:.2f}" for value in np.quantile(data[inside], (0.25, 0.5, 0.75)))
        medians = ", ".join(f"{where} {np.median(data[voxels]):.2f}" for where, voxels in bodies.items())
        alike = np.corrcoef(data[inside], reference)[0, 1]
        ratio = np.median(data[inside] / reference)
        print(f"{name}: quartiles {quartiles} Å; {medians} Å; correlation with RELION {alike:.3f}, ratio {ratio:.3f}")
    same, default = (rows[name][inside] for name in ("the same windows", "default, in the mask"))
    assert np.corrcoef(same, reference)[0, 1] > 0.93
    assert np.median(same / reference) == pytest.approx(1, abs=0.12)
    assert np.corrcoef(default, reference)[0, 1] > 0.8
    body_a, body_b = (np.median(rows["default, in the mask"][voxels]) for voxels in bodies.values())
    assert body_a < 0.7 * body_b
