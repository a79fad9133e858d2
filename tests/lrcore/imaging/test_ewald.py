"""The Ewald sphere: images seen slab by slab are two curved slices, and the insertion is their adjoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend, get_backend
from lrcore.imaging.ewald import curvature_overlap, ewald_spheres
from lrcore.imaging.fourier_volume import FourierVolume, fourier_volume_shape
from lrcore.imaging.grids import FourierSamples, index_grid, shell_index
from lrcore.imaging.rotations import rotation_exp
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.kernels.backproject.reference import half_plane_samples
from lrcore.kernels.whiten.reference import expand_shells
from lrcore.particles.image_stream import batches, ctf_in_quadrature, reading_order
from lrcore.records import Particles, Poses, Progress, Volume, WeightedPoses
from lrcore.refinement.reconstruction import Accumulator, backproject, empty_accumulator, reconstruct
from lrcore.simulation import images as simulation_images
from lrcore.simulation.atoms import bfactor_envelope
from lrcore.simulation.data_set import make_particles, random_rotations
from lrcore.simulation.images import noise_ft, project, write_stack
from lrcore.simulation.phantom import Phantom, SimulatedMotion
from lrcore.units import electron_wavelength_A

BOX, PIXEL = 32, 1.5
VOLTAGES = (20.0, 60.0)
"""So low that the curvature is one of several samples in a box as small as this."""


def particles_in(folder: Path, n: int) -> Particles:
    """Particles of two optics groups, one of them with tetrafoil, and images of noise, the fourth of them flat."""
    rng = np.random.default_rng(n)
    poses = Poses(random_rotations(n, rng), rng.normal(0, 2, (n, 2)))
    made = make_particles(folder, poses, BOX, PIXEL, (800.0, 3000.0), 2, rng)
    optics = [replace(o, voltage_kV=voltage, cs_mm=0.01) for o, voltage in zip(made.optics, VOLTAGES, strict=True)]
    optics[1] = replace(optics[1], even_zernike=(0.3, 0.0, 2.0, 1.0))
    made = replace(made, optics=tuple(optics), bfactor_A2=rng.uniform(0, 20, n), scale=rng.uniform(0.5, 1.5, n))
    (images,) = noise_ft(made, "white", rng)
    images[3] = 0
    write_stack(made, iter([images]), float16=False)
    return made


def noise_of_groups() -> np.ndarray:
    """Another σ² in every shell and optics group."""
    return np.random.default_rng(1).uniform(1, 4, (2, BOX // 2 + 1))


def inserted(particles: Particles, points: WeightedPoses, group: str, ewald: str, backend: Backend) -> Accumulator:
    """The sums of all particles at their points."""
    sums, curved = empty_accumulator(BOX, backend), ewald_spheres(particles, ewald)
    for batch in batches(particles, reading_order(particles), backend):
        mine = WeightedPoses(points.rotation[batch.rows], points.origin_A[batch.rows], points.share[batch.rows])
        optics = particles.group[batch.rows]
        backproject(
            sums, batch, mine, PIXEL, noise_of_groups(), optics, symmetry_operators(group), backend, None, curved
        )
    return sums


def same(found: Accumulator, expected: Accumulator, relative: float) -> None:
    for one, two in ((found.numerator, expected.numerator), (found.denominator, expected.denominator)):
        assert np.abs(one - two).max() < relative * np.abs(two).max()


@pytest.mark.parametrize(("ewald", "slab_rad", "most"), [("positive", 0.2, 0.06), ("negative", 0.02, 0.01)])
def test_atoms_at_their_own_defocus_are_seen_on_two_curved_slices(
    ewald: str, slab_rad: float, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X = c₊ F(q₊) + c₋ F(q₋), with the FT of the atoms worked out sample by sample: this holds the sign."""
    n, rng = 4, np.random.default_rng(3)
    made = particles_in(tmp_path, n)
    monkeypatch.setattr(simulation_images, "SLAB_RAD", slab_rad)
    atoms = rng.normal(0, 9, (60, 3))
    still = SimulatedMotion(np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(3))
    (seen,) = project(Phantom(atoms, np.zeros((0, 3)), np.zeros(3)), made, made.poses, still, 30.0, ewald)
    (batch,) = batches(made, np.arange(n), get_backend("reference"))
    ctf, cosine = batch.ctf.astype(complex), ctf_in_quadrature(made, batch, get_backend("reference"))
    ky, kx = (k / (BOX * PIXEL) for k in np.broadcast_arrays(*index_grid(BOX, 2)))
    curved = ewald_spheres(made, ewald)
    assert curved is not None
    for row in (0, 1, 2):
        bend = curved.curvature[made.group[row]] * BOX * PIXEL * (kx**2 + ky**2)
        wavelength = electron_wavelength_A(VOLTAGES[made.group[row]])
        assert np.allclose(np.abs(bend), wavelength / 2 * (kx**2 + ky**2))
        turned = atoms @ made.poses.rotation[row].T
        sides = []
        for sign in (1, -1):
            phase = kx[..., None] * turned[:, 0] + ky[..., None] * turned[:, 1] + sign * bend[..., None] * turned[:, 2]
            sides.append(np.exp(-2j * np.pi * phase).sum(axis=-1))
        half = 0.5 * (ctf[row] - 1j * cosine[row]), 0.5 * (ctf[row] + 1j * cosine[row])  # c₊ and c₋
        shift = np.exp(2j * np.pi * (kx * made.poses.origin_A[row, 0] + ky * made.poses.origin_A[row, 1]))
        expected = (half[0] * sides[0] + half[1] * sides[1]) * shift * bfactor_envelope(BOX, PIXEL, 30.0, 2)
        ring = (shell_index(BOX, 2) > BOX // 4) & (shell_index(BOX, 2) < BOX // 2)
        error = np.linalg.norm((seen[row] - expected)[ring]) / np.linalg.norm(expected[ring])
        assert error < most
        wrong = (half[1] * sides[0] + half[0] * sides[1]) * shift * bfactor_envelope(BOX, PIXEL, 30.0, 2)
        assert np.linalg.norm((seen[row] - wrong)[ring]) > 0.15 * np.linalg.norm(expected[ring])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_the_insertion_is_the_adjoint_of_the_two_slices(tmp_path: Path, name: str) -> None:
    """⟨A F, X / σ²⟩ = ⟨F, A* X / σ²⟩, A with CTF, envelope, shift, shares and symmetry: to the precision of float32."""
    made, backend, rng = particles_in(tmp_path, 6), get_backend(name), np.random.default_rng(5)
    points = WeightedPoses(
        random_rotations(12, rng).reshape(6, 2, 3, 3), rng.normal(0, 2, (6, 2, 2)), np.full((6, 2), 0.5, np.float32)
    )
    sums = inserted(made, points, "C3", "negative", backend)
    volume = FourierVolume(
        (rng.normal(size=(*fourier_volume_shape(BOX // 2), 2)) @ [1, 1j]).astype(np.complex64), BOX, BOX // 2
    )
    curved = ewald_spheres(made, "negative")
    assert curved is not None
    (batch,) = batches(made, np.arange(6), backend)
    cosine = ctf_in_quadrature(made, batch, backend)
    inside, each = half_plane_samples(BOX, BOX // 2)
    samples = FourierSamples(inside.kx, inside.ky, inside.ends, BOX)
    at = np.s_[:, samples.ky, samples.kx]
    noise = expand_shells(noise_of_groups(), BOX)[made.group][at]
    half = 0.5 * (batch.ctf[at] - 1j * cosine[at])
    total = 0.0
    for point in range(2):
        turn = np.exp(2j * np.pi / (BOX * PIXEL) * points.origin_A[:, point] @ np.stack([samples.kx, samples.ky]))
        for operator in symmetry_operators("C3"):
            views = points.rotation[:, point] @ operator
            for part, bend in ((half, curved.curvature), (half.conj(), -curved.curvature)):
                planes = get_backend("reference").kernels.project_slices(volume, views, samples, bend[made.group])
                model = points.share[:, point, None] * part * planes * turn
                total += (each * batch.spectrum[at].conj() * model / noise).sum().real
    scale = np.linalg.norm(sums.numerator) * np.linalg.norm(volume.data)
    assert abs(total - np.vdot(sums.numerator, volume.data).real) < 1e-6 * scale
    assert abs(total) > 1e-4 * scale


def test_fast_electrons_make_a_flat_slice(tmp_path: Path) -> None:
    """Both sidebands go to the same place, and numerator and denominator are those without curvature."""
    made, backend = particles_in(tmp_path, 6), get_backend("cpu")
    made = replace(made, optics=tuple(replace(o, voltage_kV=1e9) for o in made.optics))
    points = WeightedPoses.from_poses(made.poses)
    flat, curved = (inserted(made, points, "C1", ewald, backend) for ewald in ("none", "positive"))
    same(curved, flat, 1e-5)


def test_what_overlaps_is_the_transform_of_a_ball() -> None:
    diameter, rng = 60.0, np.random.default_rng(0)
    points = rng.uniform(-30, 30, (400_000, 3))
    height = points[np.linalg.norm(points, axis=1) < 30, 2]
    for distance in (0.0, 0.005, 0.01, 0.02, 0.03):
        correlation = np.cos(2 * np.pi * distance * height).mean()
        assert curvature_overlap(np.array(distance), diameter) == pytest.approx(correlation, abs=5e-3)


@pytest.mark.parametrize("ewald", ["none", "positive"])
def test_symmetry_is_the_particle_at_every_operator(tmp_path: Path, ewald: str) -> None:
    made, backend = particles_in(tmp_path, 5), get_backend("cpu")
    turns = made.poses.rotation[:, None] @ symmetry_operators("D2")
    origins = np.repeat(made.poses.origin_A[:, None], 4, axis=1)
    copies = WeightedPoses(turns, origins, np.ones((5, 4), np.float32))
    same(
        inserted(made, WeightedPoses.from_poses(made.poses), "D2", ewald, backend),
        inserted(made, copies, "C1", ewald, backend),
        1e-5,
    )


def test_the_backends_agree_and_a_flat_image_weighs_nothing(tmp_path: Path) -> None:
    made = particles_in(tmp_path, 6)
    spread = rotation_exp(np.random.default_rng(2).normal(0, 0.1, (12, 3))).reshape(6, 2, 3, 3)
    points = WeightedPoses(
        made.poses.rotation[:, None] @ spread,
        np.repeat(made.poses.origin_A[:, None], 2, axis=1),
        np.tile(np.array([0.7, 0.3], np.float32), (6, 1)),
    )
    found = [inserted(made, points, "C1", "positive", get_backend(name)) for name in ("cpu", "reference")]
    same(*found, 1e-5)
    keep = np.array([0, 1, 2, 4, 5])
    without = WeightedPoses(points.rotation[keep], points.origin_A[keep], points.share[keep])
    assert np.array_equal(
        found[0].numerator, inserted(made.select(keep), without, "C1", "positive", get_backend("cpu")).numerator
    )


def test_the_opposite_curvature_is_the_other_hand(tmp_path: Path) -> None:
    """Mirrored in the plane of the image, heights change their sign, and the map its hand."""
    made, backend = particles_in(tmp_path, 6), get_backend("cpu")
    made = replace(made, poses=replace(made.poses, rotation=np.tile(np.eye(3), (6, 1, 1))))

    def rebuilt(ewald: str) -> Volume:
        *steps, volume = reconstruct(made, None, "C1", backend, ewald)
        assert all(isinstance(step, Progress) for step in steps)
        assert isinstance(volume, Volume)
        return volume

    up, down = rebuilt("positive").data, rebuilt("negative").data
    mirrored = np.roll(down[::-1], 1, axis=0)  # voxel n // 2 stays
    assert np.abs(up - mirrored)[1:].max() < 1e-4 * np.abs(up).max()
    assert np.abs(up - down)[1:].max() > 0.1 * np.abs(up).max()
