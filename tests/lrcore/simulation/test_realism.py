"""Realistic sets: each option does to the images what it says, with the truth beside it, and nothing when it is off."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.imaging.ctf import particle_ctf
from lrcore.imaging.grids import ft, ift
from lrcore.io import StackReader, mrc_maps, read_particles
from lrcore.records import Particles, Poses
from lrcore.simulation import (
    JUNK_KINDS,
    REALISTIC,
    REALISTIC_SET,
    FlexibleParticle,
    Realism,
    SimulatedMotion,
    make_two_body_phantom,
    project,
    random_rotations,
    simulate_flexible_particle,
)
from lrcore.simulation.data_set import make_particles
from lrcore.simulation.image_truth import draw_image_truth, preferred_rotations
from lrcore.simulation.scenes import Scenes, draw_neighbours

BOX, PIXEL_A, BFACTOR_A2 = 32, 5.0, 80.0
TINY: dict[str, Any] = {"n": 60, "box": BOX, "pixel_size_A": PIXEL_A, "radius_a_A": 18.0, "radius_b_A": 16.0}


def make(folder: Path, realism: Realism = REALISTIC, **options: Any) -> FlexibleParticle:
    return simulate_flexible_particle(folder, **TINY | options, realism=realism)


def images_of(particles: Particles) -> np.ndarray:
    with StackReader(particles.images, particles.box) as reader:
        return reader.read(np.arange(len(particles)))


def added(folder: Path, realism: Realism, **options: Any) -> tuple[FlexibleParticle, np.ndarray]:
    """Return a set, and its images minus those of the clean set of the same seed: the noise is the same."""
    made = make(folder / "real", realism, **options)
    clean = make(folder / "clean", Realism(), **options)
    assert made.gain == pytest.approx(clean.gain, rel=1e-12)
    return made, images_of(made.particles) - images_of(clean.particles)


def signal(made: FlexibleParticle, particles: Particles, **changes: Any) -> np.ndarray:
    """Return images without noise of the particle with other atoms or CTF parameters."""
    phantom = dataclasses.replace(made.phantom, **changes)
    batches = project(phantom, particles, made.poses_a, made.motion, BFACTOR_A2)
    return made.gain * ift(np.concatenate(list(batches)), particles.box, 2)


NONE = np.empty((0, 3))


def test_the_default_changes_no_byte(tmp_path: Path) -> None:
    plain, named = simulate_flexible_particle(tmp_path / "a", **TINY), make(tmp_path / "b", Realism())
    spoilt = make(tmp_path / "c")
    assert plain.particles.images.stacks[0].read_bytes() == named.particles.images.stacks[0].read_bytes()
    assert plain.particles.images.stacks[0].read_bytes() != spoilt.particles.images.stacks[0].read_bytes()
    assert plain.star.read_bytes() == spoilt.star.read_bytes()
    exact = signal(plain, plain.particles)
    residual = images_of(plain.particles) - exact
    assert residual.var() == pytest.approx(1.0, rel=0.03)
    assert abs(np.corrcoef(residual.ravel(), exact.ravel())[0, 1]) < 0.02


def test_images_without_the_body_show_body_a_alone(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(missing_share=0.3))
    present = made.images.present
    assert present.sum() == 42
    assert np.all(difference[present] == 0.0)
    body = signal(made, made.particles, body_a=NONE)
    assert np.abs(difference + body)[~present].max() < 1e-4 * np.abs(body).max() + 1e-6
    assert np.array_equal(made.images.conformer == -1, ~present)


@pytest.mark.parametrize("occupancy", [0.0, 0.4])
def test_occupancy_is_the_weight_of_the_body(tmp_path: Path, occupancy: float) -> None:
    made, difference = added(tmp_path, Realism(occupancy=occupancy))
    body = signal(made, made.particles, body_a=NONE)
    assert np.abs(difference - (occupancy - 1.0) * body).max() < 1e-4 * np.abs(body).max() + 1e-6
    assert np.all(made.images.occupancy == occupancy)


def test_junk_shows_no_particle(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(junk_share=0.2, missing_share=0.1))
    kind, whole = made.images.junk, signal(made, made.particles)
    assert np.bincount(kind).tolist() == [48, 4, 4, 4]
    assert not made.images.present[kind > 0].any()
    assert made.images.present.sum() == 42
    rest = difference + whole
    assert np.abs(rest[kind == JUNK_KINDS.index("noise")]).max() < 1e-4 * np.abs(whole).max() + 1e-6
    drawn = rest[kind > 1]
    assert np.all(drawn.std(axis=(1, 2)) > 0.49)
    assert np.all(drawn.std(axis=(1, 2)) < 1.51)
    assert np.abs(drawn.mean(axis=(1, 2))).max() < 1e-5
    # No two images of junk are alike, and none has power where the CTF is zero.
    alike = np.corrcoef(drawn.reshape(len(drawn), -1)) - np.eye(len(drawn))
    assert alike.max() < 0.9
    ctf = np.abs(particle_ctf(made.particles, np.flatnonzero(kind > 1)))
    power = np.abs(ft(drawn, 2)) ** 2
    assert power[ctf < 0.05].mean() < 0.05 * power[ctf > 0.5].mean()


def test_neighbours_are_particles_outside_the_middle(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(neighbours=1.5, junk_share=0.2), n=200)
    count, junk = made.images.neighbours, made.images.junk > 0
    assert count[~junk].mean() == pytest.approx(1.5, abs=0.3)
    assert not count[junk].any()
    assert np.abs(difference[~junk & (count == 0)]).max() < 1e-5
    power = difference[~junk & (count > 0)].var(axis=(1, 2))
    one_particle = signal(made, made.particles).var(axis=(1, 2)).mean()
    # Most neighbours reach in; those that do bring part of the power of a particle.
    assert np.mean(power > 0.01 * one_particle) > 0.6
    assert 0.1 < power.mean() / one_particle < 1.5
    y, x = np.indices((BOX, BOX)) - BOX // 2
    middle = np.hypot(x, y) < BOX // 5
    local = (difference[~junk] ** 2).mean(axis=0)
    assert local[middle].mean() < 0.5 * local[~middle].mean()


def test_neighbours_are_seen_at_their_centre() -> None:
    rng = np.random.default_rng(1)
    table = make_particles(
        Path(), Poses(random_rotations(9, rng), rng.normal(0.0, 9.0, (9, 2))), 16, 8.0, (1e4, 2e4), 1, rng
    )
    truth = draw_image_truth(Realism(neighbours=2.0), table, np.ones(9), BFACTOR_A2, 0)
    phantom = make_two_body_phantom(0, 18.0, 16.0)
    still = SimulatedMotion(np.zeros((9, 3)), np.zeros((9, 3)), phantom.fulcrum_A)
    rotation, origin_A = table.poses.rotation, table.poses.origin_A
    neighbours = draw_neighbours(truth, rotation, 40.0, 128.0, 0)
    distance = np.linalg.norm(neighbours.centre_A, axis=1)
    assert 60.0 <= distance.min() < distance.max() <= 104.0
    scenes = Scenes(phantom, NONE, still, truth, rotation, origin_A, neighbours, width_A=1e4)
    counted = 0
    for row in range(9):
        _, *others = scenes.parts(row)
        assert len(others) == truth.neighbours[row]
        for number, (atoms, weight) in zip(np.flatnonzero(neighbours.image == row), others, strict=True):
            seen = atoms @ rotation[row, :2].T - origin_A[row]
            expected = phantom.atoms @ neighbours.rotation[number, :2].T + neighbours.centre_A[number]
            assert np.allclose(seen, expected)
            assert weight == 1.0
            counted += 1
    assert counted == truth.neighbours.sum() > 9
    narrow = dataclasses.replace(scenes, width_A=128.0)
    for row in range(9):
        for atoms, _ in narrow.parts(row)[1:]:
            assert np.all(np.abs(atoms @ rotation[row, :2].T - origin_A[row]) < 64.0)


def test_images_are_multiplied_by_the_ctf_of_the_table(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(defocus_sd_A=800.0), optics={"ctf_premultiplied": True})
    true = dataclasses.replace(made.particles, defocus_A=made.images.defocus_A)
    change = ft(signal(made, true) - signal(made, made.particles), 2)
    expected = ift(change * particle_ctf(made.particles, np.arange(len(true))), BOX, 2)
    assert np.abs(difference - expected).max() < 1e-4 * np.abs(expected).max() + 1e-6


def test_views_crowd_about_both_ends_of_an_axis(tmp_path: Path) -> None:
    made = make(tmp_path, Realism(view_concentration=8.0), n=400, box=16, pixel_size_A=8.0)
    views = made.poses_a.rotation[:, 2]
    moment = np.linalg.eigh(views.T @ views / len(views))
    cosine = views @ moment.eigenvectors[:, -1]
    # Of the von Mises-Fisher distribution: ⟨|w|⟩ = coth κ - 1 / κ for large κ.
    assert np.abs(cosine).mean() == pytest.approx(1.0 - 1.0 / 8.0, abs=0.02)
    assert np.mean(cosine > 0) == pytest.approx(0.5, abs=0.1)
    # The truth, the table and the images speak of the same views.
    assert np.abs(made.particles.poses.rotation @ made.poses_a.rotation.swapaxes(1, 2) - np.eye(3)).max() < 0.2
    clean = make(tmp_path / "clean", Realism(), n=400, box=16, pixel_size_A=8.0)
    noise = [images_of(one.particles) - signal(one, one.particles) for one in (made, clean)]
    assert np.abs(noise[0] - noise[1]).max() < 1e-5


@pytest.mark.parametrize("concentration", [0.1, 3.0, 50.0])
def test_preferred_rotations_follow_their_distribution(concentration: float) -> None:
    rotation = preferred_rotations(concentration, 20_000, np.random.default_rng(1))
    assert np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max() < 1e-12
    assert np.allclose(np.linalg.det(rotation), 1.0)
    views = rotation[:, 2]
    largest = np.linalg.eigvalsh(views.T @ views / len(views))[-1]
    w = np.linspace(-1.0, 1.0, 20_001)
    weight = np.exp(concentration * (w - 1.0))
    assert largest == pytest.approx((w**2 * weight).sum() / weight.sum(), abs=0.015)
    # The turn in the plane is uniform: no direction of the first row is preferred beyond what the views say.
    assert np.abs(rotation[:, 0].mean(axis=0)).max() < 0.03


@pytest.mark.parametrize(
    ("realism", "field"),
    [
        (Realism(defocus_sd_A=800.0), "defocus_A"),
        (Realism(bfactor_sd_A2=60.0), "bfactor_A2"),
        (Realism(contrast_sd=0.4), "scale"),
    ],
)
def test_images_have_other_ctf_parameters_than_the_table_says(tmp_path: Path, realism: Realism, field: str) -> None:
    made, difference = added(tmp_path, realism)
    assert made.star.read_bytes() == (tmp_path / "clean" / "particles.star").read_bytes()
    true = dataclasses.replace(made.particles, **{field: getattr(made.images, field)})
    expected = signal(made, true) - signal(made, made.particles)
    assert np.abs(difference - expected).max() < 1e-4 * np.abs(expected).max() + 1e-6
    assert expected.std() > 0.02 * signal(made, true).std()


def test_ctf_parameters_spread_as_asked(tmp_path: Path) -> None:
    realism = Realism(defocus_sd_A=300.0, bfactor_sd_A2=200.0, contrast_sd=0.3)
    made = make(tmp_path, realism, n=600, box=16, pixel_size_A=8.0)
    error = made.images.defocus_A - made.particles.defocus_A
    assert np.allclose(error[:, 0], error[:, 1])
    assert error[:, 0].std() == pytest.approx(300.0, rel=0.1)
    assert np.log(made.images.scale).std() == pytest.approx(0.3, rel=0.1)
    assert made.images.bfactor_A2.min() == -BFACTOR_A2
    assert made.images.bfactor_A2[made.images.bfactor_A2 > 0].std() > 80.0


def test_ice_gradients_are_ramps(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(ice_gradient_sd=2.0))
    step_y, step_x = np.diff(difference, axis=1) * BOX, np.diff(difference, axis=2) * BOX
    assert np.abs(step_x - made.images.ice_gradient[:, :1, None]).max() < 1e-3
    assert np.abs(step_y - made.images.ice_gradient[:, 1:, None]).max() < 1e-3
    assert made.images.ice_gradient.std() == pytest.approx(2.0, rel=0.15)


def test_beam_tilt_is_in_the_images_alone(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(beam_tilt_mrad=(3.0, -2.0)), optics={"beam_tilt_mrad": (1.0, 0.0)})
    assert read_particles(made.star).optics[0].beam_tilt_mrad == (1.0, 0.0)
    optics = (dataclasses.replace(made.particles.optics[0], beam_tilt_mrad=(4.0, -2.0)),)
    tilted = dataclasses.replace(made.particles, optics=optics)
    expected = signal(made, tilted) - signal(made, made.particles)
    assert np.abs(difference - expected).max() < 1e-4 * np.abs(expected).max() + 1e-6
    assert expected.std() > 1e-3 * signal(made, tilted).std()


def test_the_second_conformer_has_its_far_half_turned(tmp_path: Path) -> None:
    made, difference = added(tmp_path, Realism(second_conformer_share=0.25, missing_share=0.2, conformer_turn_deg=60.0))
    second = made.images.conformer == 1
    assert np.bincount(made.images.conformer + 1).tolist() == [12, 36, 12]
    assert np.abs(difference[made.images.conformer == 0]).max() < 1e-5
    first, other = made.phantom.body_b, made.second_body
    expected = signal(made, made.particles, body_b=other) - signal(made, made.particles)
    assert np.abs(difference - expected)[second].max() < 1e-4 * np.abs(expected).max() + 1e-6
    # The half at the fulcrum stays; the far half keeps its shape and turns by the angle.
    stays = np.all(first == other, axis=1)
    assert 0.3 < stays.mean() < 0.7
    fulcrum = made.phantom.fulcrum_A
    assert (
        np.linalg.norm(first[stays] - fulcrum, axis=1).mean() < np.linalg.norm(first[~stays] - fulcrum, axis=1).mean()
    )
    before, after = (points[~stays] - points[~stays].mean(axis=0) for points in (first, other))
    u, _, v = np.linalg.svd(after.T @ before)
    turn = u @ v
    assert np.allclose(before @ turn.T, after)
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(60.0)
    # Its map is written, and the mask holds both conformers.
    mask = mrc_maps.read_volume(made.map("mask_b")).data
    x, y, z = np.rint(np.concatenate([first, other]) / PIXEL_A).astype(int).T + BOX // 2
    assert np.all(mask[z, y, x] == 1.0)
    maps = [mrc_maps.read_volume(made.map(name)).data for name in ("gt_b", "gt_b2")]
    assert 0.3 < np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] < 0.95


def test_an_option_does_not_change_what_the_others_draw(tmp_path: Path) -> None:
    everything = dataclasses.replace(REALISTIC, second_conformer_share=0.3, view_concentration=2.0, occupancy=0.8)
    full = make(tmp_path / "full", everything).images
    for name, off in (("junk_share", ()), ("defocus_sd_A", ("defocus_A",)), ("contrast_sd", ("scale",))):
        part = make(tmp_path / name, dataclasses.replace(everything, **{name: 0.0})).images
        for field in ("defocus_A", "bfactor_A2", "scale", "ice_gradient"):
            assert np.array_equal(getattr(part, field), getattr(full, field)) == (field not in off)


def test_the_truth_file_says_what_each_image_shows(tmp_path: Path) -> None:
    made = make(tmp_path, **{name: value for name, value in REALISTIC_SET.items() if name != "realism"})
    stored = np.load(made.truth)
    for field in dataclasses.fields(made.images):
        assert np.array_equal(stored[field.name], getattr(made.images, field.name))
    assert np.count_nonzero(stored["junk"]) == round(0.12 * 60)
    assert np.count_nonzero(~stored["present"]) == round(0.12 * 60) + round(0.2 * 60)


def test_an_ewald_sphere_and_a_lens_go_with_it(tmp_path: Path) -> None:
    lens = {"mag_matrix": (1.02, 0.01, 0.01, 0.97)}
    realism = dataclasses.replace(REALISTIC, neighbours=3.0, occupancy=0.5)
    small = {"box": 48, "pixel_size_A": 1.5, "n": 24, "optics": lens}
    flat, sphere = (make(tmp_path / ewald, realism, ewald=ewald, **small) for ewald in ("none", "positive"))
    a, b = images_of(flat.particles), images_of(sphere.particles)
    assert np.all(np.isfinite(b))
    particle = flat.images.junk == 0
    assert np.array_equal(a[~particle], b[~particle])
    assert 0.0 < (a - b)[particle].std() < 0.1 * a[particle].std()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"junk_share": 1.2}, "junk_share is 1.2: give a share from 0 to 1"),
        ({"missing_share": -0.1}, "missing_share is -0.1: give a share from 0 to 1"),
        ({"occupancy": float("nan")}, "occupancy is nan: give a share from 0 to 1"),
        ({"neighbours": -1.0}, "neighbours is -1.0: give a number of 0 or more"),
        ({"defocus_sd_A": float("inf")}, "defocus_sd_A is inf: give a number of 0 or more"),
        (
            {"junk_share": 0.6, "missing_share": 0.5},
            "junk_share and missing_share add up to 1.1: give shares with a sum of at most 1",
        ),
        ({"conformer_turn_deg": float("nan")}, "conformer_turn_deg is nan: give an angle in degrees"),
        ({"beam_tilt_mrad": (1.0, 2.0, 3.0)}, "beam_tilt_mrad is (1.0, 2.0, 3.0): give x and y in mrad"),
    ],
)
def test_impossible_values_are_told_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Realism(**values)
