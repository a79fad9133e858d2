"""Options that change the map, each with and without, against the truth."""

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.io import read_particles
from lrcore.io.cs_table import with_columns
from lrcore.masks import centre_of_mass, soft_sphere
from lrcore.records import Step, Volume
from lrcore.refinement.density import mask_for_next_iteration
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import fsc_against_truth, rotation_error_deg
from lrwidgets.cli._main import main
from tests.validation.judge import SimulatedCase, last_step, load_case, mean_map, print_measurement, refine

Run = tuple[Step, Step]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCase:
    """SNR 0.02: posteriors are 4° wide."""
    folder = tmp_path_factory.mktemp("noisy")
    simulate_flexible_particle(folder, n=4000, box=64, pixel_size_A=3.0, snr=0.02, hinge_sd_deg=4.0, seed=7)
    return load_case(folder)


def truth_A(case: SimulatedCase, step: Step) -> float:
    """Resolution of the mean map against the truth inside the mask, at FSC 0.5."""
    return fsc_against_truth(mean_map(step), case.gt_b, case.mask).resolution_A(0.5)


def median_error_deg(case: SimulatedCase, step: Step) -> float:
    return float(sorted(rotation_error_deg(step.expectation.poses, case.truth))[len(case.particles) // 2])


def iterated(case: SimulatedCase, spec: RefineSpec, n: int, backend: Backend) -> Step:
    """So many iterations, converged or not."""
    job = case.job(spec)
    first = last = last_step(start(job, backend))
    for _ in range(n):
        last = last_step(run_iteration(job, first, last, backend))
    return last


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCase:
    """Amplitudes of the images vary by 40 %; so does the noise of two optics groups, in colour."""
    folder = tmp_path_factory.mktemp("uneven")
    simulate_flexible_particle(folder, n=2000, box=64, pixel_size_A=3.0, snr=0.05, groups=2, scale_sd=0.4, seed=9)
    return load_case(folder)


def test_marginalization_on_clean_data(two_body: SimulatedCase, two_body_run: Run, backend: Backend) -> None:
    _, without = refine(two_body.job(RefineSpec(marginalize=False)), backend)
    pair = [two_body_run[1], without]
    at = [truth_A(two_body, step) for step in pair]
    wrong = [median_error_deg(two_body, step) for step in pair]
    print_measurement(
        f"two_body with, without marginalization: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°"
    )
    assert at[0] < at[1] - 0.03
    assert wrong[0] < wrong[1]


def test_marginalization_on_noisy_data(noisy: SimulatedCase, backend: Backend) -> None:
    pair = [iterated(noisy, RefineSpec(marginalize=on), 7, backend) for on in (True, False)]
    at = [truth_A(noisy, step) for step in pair]
    wrong = [median_error_deg(noisy, step) for step in pair]
    claimed = [step.fsc["masked"].resolution_A() for step in pair]
    print_measurement(
        f"SNR 0.02 with, without marginalization: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°"
    )
    print_measurement(f"half maps claim {claimed[0]:.2f}, {claimed[1]:.2f} Å")
    assert at[0] < at[1] - 0.1
    assert wrong[0] < wrong[1] - 0.2


def test_per_particle_scale(uneven: SimulatedCase, backend: Backend) -> None:
    pair = [iterated(uneven, RefineSpec(per_particle_scale=on), 4, backend) for on in (True, False)]
    true = np.load(uneven.folder / "truth.npz")["scale"]
    found = pair[0].expectation.scale
    alike, wide = np.corrcoef(found, true)[0, 1], found.std() / true.std()
    at = [truth_A(uneven, step) for step in pair]
    wrong = [median_error_deg(uneven, step) for step in pair]
    print_measurement(f"amplitudes: correlation with the truth {alike:.2f}, {wide:.2f} times as wide")
    print_measurement(f"with, without per-particle scale: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°")
    assert alike > 0.7
    assert 0.6 < wide < 1.1
    assert at[0] <= at[1]
    assert wrong[0] < wrong[1] + 0.02
    assert np.array_equal(pair[1].expectation.scale, np.ones(len(true)))


def test_scales_of_a_cs_file(uneven: SimulatedCase, backend: Backend) -> None:
    """The true amplitudes in alignments3D/alpha, and a file that has none."""
    plain, scaled = uneven.folder / "plain.cs", uneven.folder / "scaled.cs"
    assert main(["convert", str(uneven.folder / "particles.star"), str(plain)]) == 0
    alpha = np.load(uneven.folder / "truth.npz")["scale"].astype(np.float32)
    with scaled.open("wb") as file:
        np.save(file, with_columns(np.load(plain), {"alignments3D/alpha": alpha}))
    cases = [replace(uneven, particles=read_particles(path)) for path in (scaled, plain)]
    pair = [iterated(case, RefineSpec(), 3, backend) for case in cases]
    at = [truth_A(uneven, step) for step in pair]
    wrong = [median_error_deg(uneven, step) for step in pair]
    print_measurement(f"with, without the scales of a .cs: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°")
    assert at[0] < at[1]
    assert wrong[0] < wrong[1] + 0.02


def test_intensities_of_optics_groups(tmp_path: Path, backend: Backend) -> None:
    """One of two groups shows the particle half as strongly, which the STAR file does not tell."""
    simulate_flexible_particle(
        tmp_path, n=1500, box=64, pixel_size_A=3.0, snr=0.05, groups=2, intensities=(1.0, 0.5), seed=9
    )
    dim = load_case(tmp_path)
    first = last_step(start(dim.job(), backend))
    ratio = first.intensity[0] / first.intensity[1]
    at, wrong = [], []
    for begun in (first, replace(first, intensity=())):
        last = begun
        for _ in range(3):
            last = last_step(run_iteration(dim.job(), begun, last, backend))
        assert last.intensity == begun.intensity
        at.append(truth_A(dim, last))
        wrong.append(median_error_deg(dim, last))
    print_measurement(f"one group is {ratio:.2f} times as strong as the other (2 in truth)")
    print_measurement(f"with, without their intensities: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°")
    assert abs(ratio - 2) < 0.1
    assert at[0] < at[1] - 0.3
    assert wrong[0] < wrong[1]


def test_noise_models(uneven: SimulatedCase, backend: Backend) -> None:
    models = ("coloured", "symmetric", "white")
    found = {model: iterated(uneven, RefineSpec(noise_model=model), 4, backend) for model in models}
    at = {model: truth_A(uneven, step) for model, step in found.items()}
    wrong = {model: median_error_deg(uneven, step) for model, step in found.items()}
    print_measurement(", ".join(f"{model}: {at[model]:.2f} Å, {wrong[model]:.2f}°" for model in found))
    assert wrong["coloured"] < wrong["white"]
    assert at["coloured"] <= at["white"]


def test_one_spectrum_for_groups_that_are_normalised_otherwise(tmp_path: Path, backend: Backend) -> None:
    """Images of the second group are 3 times as strong, noise and all."""
    simulate_flexible_particle(tmp_path, n=1000, box=64, pixel_size_A=3.0, snr=0.1, groups=2, seed=9)
    with mrcfile.mmap(tmp_path / "particles.mrcs", "r+") as stack:
        stack.data[500:] *= 3
    case = load_case(tmp_path)
    found = {model: iterated(case, RefineSpec(noise_model=model), 2, backend) for model in ("coloured", "symmetric")}
    at = {model: truth_A(case, step) for model, step in found.items()}
    wrong = {model: median_error_deg(case, step) for model, step in found.items()}
    first, second = found["coloured"].intensity
    print_measurement(
        f"intensities {first:.2f}, {second:.2f}: " + ", ".join(f"{m}: {at[m]:.2f} Å, {wrong[m]:.2f}°" for m in found)
    )
    assert abs(second / first - 3) < 0.15
    assert at["coloured"] < at["symmetric"] - 0.08
    assert wrong["coloured"] < wrong["symmetric"] - 0.5


def within(mask: Volume, truth: Volume) -> float:
    """Share of the power of a map inside a mask."""
    power = truth.data.astype(np.float64) ** 2
    return float((power * mask.data).sum() / power.sum())


def test_a_dynamic_mask_grows_onto_its_body_and_a_static_one_stays(two_body: SimulatedCase, backend: Backend) -> None:
    centre = np.rint(centre_of_mass(two_body.mask.data)).astype(int)[::-1]
    core = soft_sphere(two_body.mask.box, 9.0, 4.0)
    small = replace(two_body.mask, data=np.roll(core, tuple(centre), axis=(0, 1, 2)))
    seen, wrong = {}, {}
    for mode in ("static", "dynamic"):
        job = replace(two_body.job(RefineSpec(mask_mode=mode)), mask=small)
        _, last = refine(job, backend)
        mask = mask_for_next_iteration(job, last)
        seen[mode], wrong[mode] = within(mask, two_body.gt_b), median_error_deg(two_body, last)
        assert np.array_equal(mask.data, small.data) == (mode == "static")
    print_measurement(
        f"mask too small: {within(small, two_body.gt_b):.0%} of the body's power inside, then {seen['dynamic']:.0%}"
    )
    print_measurement(f"rotation error: dynamic {wrong['dynamic']:.2f}°, static {wrong['static']:.2f}°")
    assert seen["dynamic"] > seen["static"] + 0.2
    assert wrong["dynamic"] < wrong["static"]
