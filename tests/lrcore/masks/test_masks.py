"""Making masks: distances against SciPy's, sets and edges by law, thresholds on phantoms, shapes, models, checks."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from lrcore import masks
from lrcore.errors import InputError
from lrcore.imaging.grids import radius_grid
from lrcore.masks.distance import bounding_block, squared_distance
from lrcore.records import Volume
from lrcore.simulation.atoms import density_of_atoms, distance_to_atoms_A
from lrcore.simulation.phantom import make_two_body_phantom

PIXEL = 1.3


def blobs(n: int, seed: int, share: float = 0.05) -> np.ndarray:
    """Random lumps that fill a share of the box: (n, n, n) bool."""
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(n, n, n)), 1.5)
    return smooth > np.quantile(smooth, 1 - share)


def ball(n: int, radius: float, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    return radius_grid(n, 3, centre) <= radius


def true_distance(inside: np.ndarray) -> np.ndarray:
    """The reference: SciPy's exact transform, in voxels."""
    return distance_transform_edt(~inside)


# Distances


@pytest.mark.parametrize("shape", [(24, 24, 24), (17, 23, 31), (1, 9, 40)])
@pytest.mark.parametrize("reach", [0, 1, 4, 50])
def test_distances_are_scipys_up_to_the_reach(shape, reach):
    inside = np.random.default_rng(1).random(shape) < 0.01
    inside[0, -1, 0] = True
    expected = np.minimum(np.rint(true_distance(inside) ** 2), reach**2 + 1)
    assert np.array_equal(squared_distance(inside, reach), expected)


def test_long_distances_do_not_overflow():
    inside = np.zeros((1, 1, 400), bool)
    inside[..., 0] = True
    assert np.array_equal(squared_distance(inside, 300)[0, 0, :302], np.minimum(np.arange(302) ** 2, 300**2 + 1))


def test_nothing_is_far_from_nothing():
    nothing = np.zeros((8, 8, 8), bool)
    assert np.all(squared_distance(nothing, 3) == 10)
    assert nothing[bounding_block(nothing)].size == 0
    assert not masks.soft_edge(nothing, PIXEL, 3.0).any()


# Sets


def test_a_point_grows_to_a_ball_and_not_to_a_box():
    point = np.zeros((25, 25, 25), bool)
    point[12, 12, 12] = True
    grown = masks.dilate(point, PIXEL, 8 * PIXEL)
    assert np.array_equal(grown, ball(25, 8.0))
    assert np.array_equal(masks.erode(grown, PIXEL, 5 * PIXEL), true_distance(~grown) > 5)


@pytest.mark.parametrize("n", [24, 25])
def test_erosion_is_dilation_of_the_outside(n):
    inside = blobs(n, 2, 0.3)
    padded = np.pad(inside, 4)  # beyond the box is outside
    expected = ~masks.dilate(~padded, PIXEL, 2.5)[4:-4, 4:-4, 4:-4]
    assert np.array_equal(masks.erode(inside, PIXEL, 2.5), expected)
    closed = masks.erode(np.pad(masks.dilate(padded, PIXEL, 2.5), 4), PIXEL, 2.5)[8:-8, 8:-8, 8:-8]
    assert np.all(closed[inside])


def test_a_long_region_is_eroded_from_its_ends_too():
    bar = np.zeros((30, 30, 30), bool)
    bar[12:18, 10:20, 3:28] = True
    assert np.argwhere(masks.erode(bar, PIXEL, 2 * PIXEL)).tolist() == np.argwhere(true_distance(~bar) > 2).tolist()
    assert not masks.erode(bar, PIXEL, 30.0).any()
    assert [(part.start, part.stop) for part in bounding_block(bar, 4)] == [(8, 22), (6, 24), (0, 30)]


def test_holes_are_filled_and_tunnels_are_not():
    shell = ball(31, 10) & ~ball(31, 5)
    assert np.array_equal(masks.fill_holes(shell), ball(31, 10))
    tunnel = shell.copy()
    tunnel[15, 15, 15:] = False
    assert np.array_equal(masks.fill_holes(tunnel), tunnel)
    assert not masks.fill_holes(np.zeros((5, 5, 5), bool)).any()


def test_the_largest_parts():
    sets = [ball(40, 6, (-10, 0, 0)), ball(40, 4, (6, 8, 0)), ball(40, 3, (8, -8, 5))]
    everything = np.logical_or.reduce(sets)
    for count, expected in ((1, sets[0]), (2, sets[0] | sets[1]), (3, everything), (0, everything), (9, everything)):
        kept, found = masks.largest_components(everything, count)
        assert found == 3
        assert np.array_equal(kept, expected)
    assert masks.largest_components(np.zeros((4, 4, 4), bool))[1] == 0


def test_of_equal_parts_exactly_as_many_as_asked_for():
    inside = np.zeros((9, 9, 9), bool)
    inside[1, 1, 1] = inside[4, 4, 4] = inside[7, 7, 7] = True
    kept, found = masks.largest_components(inside, 2)
    assert found == 3
    assert np.argwhere(kept).tolist() == [[1, 1, 1], [4, 4, 4]]


def test_the_part_at_a_point():
    low, high = ball(41, 4, (-10, 2, 0)), ball(41, 5, (8, 0, -3))
    here = np.array([-3.0, 0.0, 8.0]) * PIXEL  # (x, y, z)
    assert np.array_equal(masks.component_at(low | high, PIXEL, here), high)
    with pytest.raises(InputError, match="20, 20, 20 px: is not in the region"):
        masks.component_at(low | high, PIXEL, (0, 0, 0))
    with pytest.raises(InputError, match="outside the box"):
        masks.component_at(low | high, PIXEL, (99, 0, 0))


# Edges


@pytest.mark.parametrize(("start", "width"), [(0.0, 6.0), (4.0, 5.0), (3.9, 0.0), (0.0, 0.0)])
def test_an_edge_is_a_raised_cosine_of_the_distance(start, width):
    inside = blobs(32, 3)
    mask = masks.soft_edge(inside, PIXEL, width, start)
    distance = true_distance(inside) * PIXEL
    phase = np.clip((distance - start) / width, 0, 1) if width else distance > start + 1e-6
    assert np.allclose(mask, 0.5 + 0.5 * np.cos(np.pi * phase), atol=1e-5)
    assert np.all(mask[distance <= start] == 1)
    assert np.all(mask[distance >= start + width + 1e-6] == 0)
    assert mask.dtype == np.float32


def test_the_edge_of_a_ball_is_that_of_the_sphere():
    """The analytic sphere is the witness; the surface of a set of voxels is known to a voxel."""
    edge = masks.soft_edge(ball(64, 14), PIXEL, 10 * PIXEL)
    sphere = masks.sphere_mask(64, PIXEL, (0, 0, 0), 14 * PIXEL, 10 * PIXEL)
    steepest = np.pi / 2 / 10  # of the cosine, per voxel
    assert np.abs(edge - sphere).max() < steepest
    assert edge.sum() == pytest.approx(sphere.sum(), rel=0.05)


def test_growing_in_one_step_is_growing_in_several():
    inside = blobs(40, 4) & ball(40, 12)
    assert np.array_equal(masks.mask_from_region(inside, PIXEL, 3.0, 0.0) > 0, masks.dilate(inside, PIXEL, 3.0))
    assert np.array_equal(masks.mask_from_region(inside, PIXEL, 3.0, 6.0) == 1, masks.dilate(inside, PIXEL, 3.0))
    shell = ball(40, 12) & ~ball(40, 6)
    stepwise = masks.soft_edge(masks.fill_holes(masks.dilate(shell, PIXEL, 2.0)), PIXEL, 6.0)
    filled = masks.mask_from_region(shell, PIXEL, 2.0, 6.0, fill=True)
    assert np.all(filled[ball(40, 13)] == 1)
    assert np.abs(filled - stepwise).max() < np.pi / 2 * PIXEL / 6.0
    shrunk = masks.mask_from_region(shell, PIXEL, -2 * PIXEL, 0.0) > 0
    assert np.array_equal(shrunk, masks.erode(shell, PIXEL, 2 * PIXEL))
    with pytest.raises(InputError, match="nothing is left"):
        masks.mask_from_region(shell, PIXEL, -20.0, 5.0)


def test_turning_the_box_turns_the_mask():
    inside = blobs(25, 5)
    turned = masks.mask_from_region(np.rot90(inside, axes=(0, 2)), PIXEL, 2.0, 5.0, fill=True)
    assert np.array_equal(turned, np.rot90(masks.mask_from_region(inside, PIXEL, 2.0, 5.0, fill=True), axes=(0, 2)))


# Joining


def test_soft_masks_are_joined_by_the_laws_of_sets():
    a, b = (masks.soft_edge(blobs(24, seed), PIXEL, 5.0) for seed in (6, 7))
    for join in (masks.intersect_masks, masks.unite_masks):
        assert np.array_equal(join(a, a), a)
        assert np.array_equal(join(a, b), join(b, a))
    assert np.array_equal(
        masks.invert_mask(masks.intersect_masks(a, b)), masks.unite_masks(masks.invert_mask(a), masks.invert_mask(b))
    )
    assert np.allclose(masks.invert_mask(masks.invert_mask(a)), a, atol=1e-7)
    assert np.array_equal(masks.subtract_mask(a, np.zeros_like(a)), a)
    assert masks.subtract_mask(a, np.ones_like(a)).max() == 0
    assert np.all(masks.subtract_mask(a, b)[b == 1] == 0)


# Density


def test_a_lowpass_keeps_what_is_coarse_and_takes_what_is_fine():
    n = 48
    x = np.arange(n) * PIXEL
    coarse, fine = (np.cos(2 * np.pi * k / (n * PIXEL) * x) for k in (3, 15))
    data = np.broadcast_to(2 + coarse + fine, (n, n, n)).astype(np.float32)
    limit = n * PIXEL / 8  # shell 8
    assert np.abs(masks.lowpass(data, PIXEL, limit) - (2 + coarse)).max() < 0.01
    assert masks.lowpass(data, PIXEL, 0.0) is data
    assert masks.lowpass(data, PIXEL, 2 * PIXEL) is data


@pytest.fixture(scope="module")
def particle():
    """A phantom: the map of all atoms, and the distance in Å of each voxel from one."""
    phantom = make_two_body_phantom(3, 24.0, 18.0)
    n, pixel = 64, 2.2
    truth = density_of_atoms(phantom.atoms, n, pixel, 80.0).astype(np.float32)
    return truth / truth.std(), distance_to_atoms_A(phantom.atoms, n, pixel), pixel, len(phantom.atoms)


def covered(data: np.ndarray, particle, resolution: float = 12.0) -> tuple[float, float]:
    """Of the largest part above the automatic threshold: share of the particle in it, and its share far outside."""
    _, distance, pixel, _ = particle
    filtered = masks.lowpass(data.astype(np.float32), pixel, resolution)
    inside, _ = masks.largest_components(masks.voxels_above_threshold(filtered, masks.automatic_threshold(filtered)))
    return (inside & (distance < 2)).sum() / (distance < 2).sum(), (inside & (distance > 8)).sum() / inside.sum()


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("resolution", [8.0, 12.0, 16.0])
def test_the_automatic_threshold_holds_the_particle_and_no_noise(particle, noise, resolution):
    data = particle[0] + noise * np.random.default_rng(8).normal(size=particle[0].shape)
    held, far = covered(data, particle, resolution)
    assert held > 0.9
    assert far < 0.02


def test_the_automatic_threshold_holds_a_body_that_is_weaker(particle):
    phantom = make_two_body_phantom(3, 24.0, 18.0)
    pixel = particle[2]
    strong, weak = (density_of_atoms(body, 64, pixel, 80.0) for body in (phantom.body_a, phantom.body_b))
    data = (strong + 0.6 * gaussian_filter(weak, 1.5)).astype(np.float32)
    filtered = masks.lowpass(data, pixel, 12.0)
    inside = masks.voxels_above_threshold(filtered, masks.automatic_threshold(filtered))
    body_b = distance_to_atoms_A(phantom.body_b, 64, pixel) < 2
    assert inside[body_b].mean() > 0.85


def test_the_automatic_threshold_scales_with_the_map_and_hardly_minds_padding_or_masking(particle):
    truth, distance, pixel, _ = particle
    noisy = (truth + 0.5 * np.random.default_rng(9).normal(size=truth.shape)).astype(np.float32)
    filtered = masks.lowpass(noisy, pixel, 12.0)
    threshold = masks.automatic_threshold(filtered)
    assert masks.automatic_threshold(4 * filtered) == pytest.approx(4 * threshold, rel=1e-5)
    assert masks.automatic_threshold(np.pad(filtered, 24)) == pytest.approx(threshold, rel=0.25)
    emptied = np.where(distance < 15, filtered, 0).astype(np.float32)
    assert masks.automatic_threshold(emptied) == pytest.approx(threshold, rel=0.25)


def test_the_automatic_threshold_stays_above_the_noise_where_it_can(particle):
    truth = masks.lowpass(particle[0], particle[2], 12.0)
    quiet = masks.automatic_threshold(truth)
    noise = np.random.default_rng(10).normal(size=truth.shape).astype(np.float32)
    sd = quiet / 2.2  # 3 SD lie between half of Otsu's threshold and the whole
    louder = masks.automatic_threshold(truth + sd * noise)
    assert louder == pytest.approx(3 * sd, rel=0.05)


def test_a_threshold_that_parts_nothing_is_refused():
    data = np.linspace(1, 2, 64, dtype=np.float32).reshape(4, 4, 4)
    with pytest.raises(InputError, match=r"no voxel of the map is above it.*lower it"):
        masks.voxels_above_threshold(data, 2.0)
    with pytest.raises(InputError, match=r"all voxels of the map are above it.*raise it"):
        masks.voxels_above_threshold(data, 0.5)
    with pytest.raises(InputError, match="no voxel above 0"):
        masks.automatic_threshold(-data)


@pytest.mark.parametrize("name", ["two_body", "pol2_stalk"])
def test_masks_of_the_outside_data(test_data, name):
    """From two half maps to a mask that holds the truth's density and is no larger than the mask that came with it."""
    from lrcore import io

    folder = test_data(name)
    halves = [io.read_volume(folder / f"consensus_half{i}.mrc") for i in (1, 2)]
    pixel = halves[0].pixel_size_A
    filtered = masks.lowpass(0.5 * (halves[0].data + halves[1].data), pixel, 12.0)
    inside, _ = masks.largest_components(masks.voxels_above_threshold(filtered, masks.automatic_threshold(filtered)))
    given = io.read_volume(folder / "mask_full.mrc").data
    truth = np.maximum(masks.lowpass(io.read_volume(folder / "gt_full.mrc").data, pixel, 8.0), 0) * (given > 0.99)
    assert truth[inside].sum() > 0.93 * truth.sum()
    assert (inside & (given < 0.5)).sum() < 1e-3 * inside.sum()


# Shapes


@pytest.mark.parametrize(("n", "soft"), list(product([48, 49], [0.0, 6.0])))
def test_shapes_have_their_place_and_volume(n, soft):
    centre = np.array([4.0, -3.0, 2.0])
    sphere = masks.sphere_mask(n, PIXEL, centre, 12.0, soft)
    box = masks.box_mask(n, PIXEL, centre, (14.0, 20.0, 26.0), soft)
    cylinder = masks.cylinder_mask(n, PIXEL, centre, (1, 2, 2), 8.0, 24.0, soft)
    expected = (4 / 3 * np.pi * 12**3, 14 * 20 * 26, np.pi * 8**2 * 24)
    for mask, volume in zip((sphere, box, cylinder), expected, strict=True):
        assert masks.centre_of_mass(mask) * PIXEL == pytest.approx(centre, abs=0.35)
        assert (mask == 1).sum() * PIXEL**3 == pytest.approx(volume, rel=0.1)
        assert mask.dtype == np.float32
        assert (soft > 0) == bool(((mask > 0) & (mask < 1)).any())


def test_soft_shapes_fall_by_the_distance_from_them():
    n, soft = 64, 9.0
    shapes = (
        masks.box_mask(n, PIXEL, (0, 0, 0), (20, 26, 32), soft),
        masks.cylinder_mask(n, PIXEL, (0, 0, 0), (0, 0, 1), 12.0, 30.0, soft),
    )
    for mask in shapes:
        witness = masks.soft_edge(mask == 1, PIXEL, soft)
        assert np.abs(mask - witness).max() < np.pi / 2 * PIXEL / soft
    across = masks.box_mask(n, PIXEL, (0, 0, 0), (20, 26, 32), soft)
    assert across[32, 32, 32 + 10] == pytest.approx(0.5 + 0.5 * np.cos(np.pi * (10 * PIXEL - 10) / soft), abs=1e-3)


def test_a_cylinder_turns_with_its_axis():
    turned = masks.cylinder_mask(33, PIXEL, (0, 0, 0), (5, 0, 0), 6.0, 26.0, 5.0)
    upright = masks.cylinder_mask(33, PIXEL, (0, 0, 0), (0, 0, 1), 6.0, 26.0, 5.0)
    assert np.allclose(turned, upright.transpose(2, 1, 0), atol=1e-6)
    assert np.allclose(turned, masks.cylinder_mask(33, PIXEL, (0, 0, 0), (-1, 0, 0), 6.0, 26.0, 5.0), atol=1e-6)


def test_shapes_are_cut_by_the_box_and_refused_outside_it():
    assert masks.sphere_mask(32, 1.0, (16, 0, 0), 6.0)[16, 16, 31] == 1
    for refused in (
        lambda: masks.sphere_mask(32, 1.0, (40, 0, 0), 6.0),
        lambda: masks.box_mask(32, 1.0, (0, 0, 99), (4, 4, 4), 3.0),
        lambda: masks.sphere_mask(32, 1.0, (0, 0, 0), 0.0),
        lambda: masks.box_mask(32, 1.0, (0, 0, 0), (4, -4, 4)),
        lambda: masks.cylinder_mask(32, 1.0, (0, 0, 0), (0, 0, 0), 4.0, 4.0),
    ):
        with pytest.raises(InputError, match=r"no voxel of the box|must be above 0"):
            refused()


# Models


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A PDB file of two chains of ten residues, and their positions in Å from the corner."""
    gemmi = pytest.importorskip("gemmi")
    positions = np.random.default_rng(11).uniform(20, 45, (20, 3)).round(3)
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    for name, part in zip("AB", np.split(positions, 2), strict=True):
        chain = gemmi.Chain(name)
        for number, position in enumerate(part, 1):
            residue, atom = gemmi.Residue(), gemmi.Atom()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(number, " ")
            atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*position)
            residue.add_atom(atom)
            chain.add_residue(residue)
        structure[0].add_chain(chain)
    path = tmp_path_factory.mktemp("model") / "model.pdb"
    structure.write_pdb(str(path))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(path.with_suffix(".cif")))
    return path, positions


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_atoms_are_selected(model, suffix):
    path, positions = model
    path = path.with_suffix(suffix)
    assert np.allclose(masks.read_atoms(path), positions, atol=2e-3)
    assert np.allclose(masks.read_atoms(path, "//B"), positions[10:], atol=2e-3)
    assert np.allclose(masks.read_atoms(path, "//A/2-4/CA"), positions[1:4], atol=2e-3)


def test_unusable_models_and_selections(model, tmp_path, monkeypatch):
    path, _ = model
    with pytest.raises(InputError, match="the selection '//Z' matches no atom; the chains are A, B"):
        masks.read_atoms(path, "//Z")
    with pytest.raises(InputError, match="selection '///////': write"):
        masks.read_atoms(path, "///////")
    with pytest.raises(InputError, match="no such file"):
        masks.read_atoms(tmp_path / "none.pdb")
    broken = tmp_path / "broken.cif"
    broken.write_text("this is no model\n")
    with pytest.raises(InputError, match=r"broken\.cif: not a readable PDB or mmCIF file"):
        masks.read_atoms(broken)
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(InputError, match=r"need gemmi: pip install 'lrwidgets\[models\]'"):
        masks.read_atoms(path)


@pytest.mark.parametrize(("radius", "origin"), [(1.0, (0, 0, 0)), (5.0, (0, 0, 0)), (9.3, (-11.7, 2.6, 0.4))])
def test_what_is_near_atoms_is_exact(radius, origin):
    n = 40
    atoms = np.random.default_rng(12).uniform(15, 35, (7, 3))
    volume = Volume(np.zeros((n, n, n), np.float32), PIXEL, origin)
    z, y, x = np.indices((n, n, n))
    voxels = np.stack([x, y, z], axis=-1) * PIXEL + origin
    nearest = np.min([np.linalg.norm(voxels - atom, axis=-1) for atom in atoms], axis=0)
    assert np.array_equal(masks.voxels_near_atoms(volume, atoms, radius), nearest <= radius)


def test_atoms_outside_the_box_are_refused():
    volume = Volume(np.zeros((20, 20, 20), np.float32), 2.0, (100.0, 0.0, 0.0), Path("map.mrc"))
    with pytest.raises(InputError, match=r"1 of 2 atoms lie outside the box of map\.mrc \(origin 100, 0, 0 A\)"):
        masks.voxels_near_atoms(volume, np.array([[110.0, 8, 8], [10.0, 8, 8]]), 4.0)
    with pytest.raises(InputError, match="above 0"):
        masks.voxels_near_atoms(volume, np.array([[110.0, 8, 8]]), 0.0)


# Checks


def verdicts(mask, resolution=None, found=None) -> dict[str, masks.MaskCheck]:
    return {check.name: check for check in masks.check_mask(mask.astype(np.float32), PIXEL, resolution, found)}


@pytest.mark.parametrize("width", [2, 3, 6, 12, 25])
@pytest.mark.parametrize("radius", [3, 6])
def test_the_width_of_an_edge_is_measured_on_the_mask(width, radius):
    sphere = masks.sphere_mask(72, PIXEL, (0, 0, 0), radius * PIXEL, width * PIXEL)
    assert 0.99 * width <= masks.edge_width(sphere) < width + 0.5
    assert masks.edge_width((sphere > 0.5).astype(np.float32)) == 0
    lumps = blobs(48, 14, 0.01) & ball(48, 10)
    assert 0.99 * width <= masks.edge_width(masks.soft_edge(lumps, 1.0, width)) < width + 0.8


def test_an_edge_that_is_cut_off_is_narrow_there():
    cut = masks.sphere_mask(64, PIXEL, (0, 0, 0), 12 * PIXEL, 10 * PIXEL)
    cut[:20] = 0
    assert masks.edge_width(cut) < 8
    for nothing in (np.zeros((8, 8, 8), np.float32), np.ones((8, 8, 8), np.float32)):
        assert masks.edge_width(nothing) == 0


def test_a_good_mask_passes():
    found = verdicts(masks.sphere_mask(64, PIXEL, (0, 0, 0), 12.0, 15.0), 3.0, ball(64, 8).astype(np.float32))
    assert list(found) == ["values", "inside", "edge", "fraction", "border", "cut"]
    assert all(check.passed for check in found.values()), found
    assert found["edge"].threshold == pytest.approx(5 * 3.0 / PIXEL)
    assert found["cut"].value == 0


def test_each_check_can_fail():
    narrow = masks.sphere_mask(64, PIXEL, (0, 0, 0), 12.0, 5.0)
    edge = verdicts(narrow, 3.0)["edge"]
    assert not edge.passed
    assert "make it 11.5 voxels (15.0 A) for 3 A" in edge.sentence
    assert verdicts(narrow)["edge"].threshold is None
    assert verdicts(narrow)["edge"].passed
    assert not verdicts(np.ones((16, 16, 16)))["fraction"].passed
    assert not verdicts(masks.sphere_mask(64, PIXEL, (30, 0, 0), 12.0, 5.0))["border"].passed
    assert not verdicts(1.5 * narrow)["values"].passed
    assert not verdicts(narrow - 0.2)["values"].passed
    assert not verdicts(0 * narrow)["inside"].passed
    everywhere = np.ones((64, 64, 64), np.float32)
    cut = verdicts(narrow, 3.0, everywhere)["cut"]
    assert not cut.passed
    in_edge = (narrow > 1e-5) & (narrow < 1 - 1e-5)
    assert cut.value == pytest.approx(in_edge.sum() / (narrow > 1e-5).sum())
    assert "cuts through the particle" in cut.sentence


def test_the_mass_that_fits():
    assert masks.mass_kDa(1e6 / 0.81) == pytest.approx(1000)


# The dynamic mask


def test_a_dynamic_mask_is_whole_up_to_near_and_gone_at_far():
    data = ball(48, 8).astype(np.float32)
    mask = masks.dynamic_mask(data, PIXEL, 0.5, 4.0, 11.0)
    distance = true_distance(data > 0) * PIXEL
    assert np.all(mask[distance <= 4] == 1)
    assert np.all(mask[distance >= 11] == 0)
    edge = mask[(distance > 4.1) & (distance < 10.9)]
    assert edge.min() > 0
    assert edge.max() < 1
    assert np.array_equal(masks.dynamic_mask(data, PIXEL, 0.5, 4.0, 4.0) == 1, distance <= 4)


def test_a_dynamic_mask_grows_onto_what_becomes_visible():
    core, domain = ball(48, 8, (0, -6, 0)), ball(48, 6, (0, 13, 0))
    hidden = (core + 0.05 * domain).astype(np.float32)
    revealed = (core + 0.7 * domain).astype(np.float32)
    before, after = (masks.dynamic_mask(data, PIXEL, 0.2, 3.0, 12.0, 8.0) for data in (hidden, revealed))
    assert before[domain].mean() < 0.2
    assert after[domain].mean() > 0.99
    assert np.all(after >= before - 1e-6)


def test_a_dynamic_mask_depends_on_the_map_alone_and_not_on_its_scale():
    noise = np.random.default_rng(13).normal(size=(40, 40, 40))
    data = (ball(40, 9) + 0.2 * noise).astype(np.float32)
    first = masks.dynamic_mask(data, PIXEL, resolution_A=10.0)
    assert np.array_equal(first, masks.dynamic_mask(data.copy(), PIXEL, resolution_A=10.0, workers=2))
    assert np.array_equal(first, masks.dynamic_mask(8 * data, PIXEL, resolution_A=10.0))
    assert masks.check_mask(first, PIXEL)[1].passed


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"threshold": 1.0}, "threshold 1: must lie between"),
        ({"near_A": 5.0, "far_A": 4.0}, "from 5 to 4 A: the near distance"),
        ({"near_A": -1.0}, "near distance must be at least 0"),
    ],
)
def test_unusable_dynamic_masks(more, words):
    with pytest.raises(InputError, match=words):
        masks.dynamic_mask(ball(16, 4).astype(np.float32), PIXEL, **more)
    with pytest.raises(InputError, match="no voxel above 0"):
        masks.dynamic_mask(np.zeros((8, 8, 8), np.float32), PIXEL)
