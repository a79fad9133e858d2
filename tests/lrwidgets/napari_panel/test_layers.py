"""Layers and files, there and back, without a window; and one point in all its notations."""

from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer, Shapes

from lrcore import io, masks
from lrcore.errors import InputError
from lrcore.records import Volume
from lrcore.refinement.parameters import RefineSpec, fulcrum_point
from lrwidgets.napari_panel import layers
from lrwidgets.napari_panel.picking import first_point_above, pick_surface_point
from lrwidgets.napari_panel.reader import get_reader, read
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.napari_panel.writer import write
from lrwidgets.session.session import Session
from tests.fakes import FakeEngine, make_job

BOX, PIXEL, ORIGIN = 15, 2.5, (-31.25, 12.5, 7.3)
"""An odd box, and an origin off the centre and off the grid."""


@pytest.fixture
def volume() -> Volume:
    z, y, x = np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij")
    blob = np.exp(-((x - 1) ** 2 + (y + 2) ** 2 + z**2) / 8.0) + 0.01 * np.sin(x + 2 * y + 3 * z)
    return Volume(blob.astype(np.float32), PIXEL, ORIGIN)


def shown(layer: layers.LayerData) -> Layer:
    data, arguments, kind = layer
    return Layer.create(data, dict(arguments), kind)


def test_a_point_is_the_same_in_all_four_notations(volume: Volume) -> None:
    """A voxel clicked in napari; px and Å from the corner; the map's frame, that of a model."""
    layer = shown(layers.map_layer(volume))
    x, y, z = 3, 11, 6
    world = layer.data_to_world((z, y, x))
    corner_A = np.array([x, y, z]) * PIXEL
    frame_A = corner_A + np.array(ORIGIN)
    assert np.allclose(world, frame_A[::-1])
    texts = (
        layers.fulcrum_text(volume, world),
        f"{x}, {y}, {z} px",
        ", ".join(f"{a:.6f}" for a in corner_A) + " A",
        ", ".join(f"{a:.6f}" for a in frame_A) + " map",
    )
    points = []
    for text in texts:
        spec = RefineSpec(fulcrum=text)
        points.append(fulcrum_point(spec.fulcrum, BOX, PIXEL, (0.0, 0.0, 0.0), ORIGIN))
    assert np.ptp(points, axis=0).max() < 0.006  # what a layer's point is rounded to
    assert np.allclose(points[1], (np.array([x, y, z]) - BOX // 2) * PIXEL)
    assert np.allclose(layers.from_world(volume, world), points[1])
    assert np.allclose(layers.to_world(volume, points[1]), world)


def test_a_map_goes_into_a_layer_and_back(volume: Volume) -> None:
    again = layers.volume_from_layer(shown(layers.map_layer(volume)))
    assert np.array_equal(again.data, volume.data)
    assert again.pixel_size_A == pytest.approx(PIXEL)
    assert again.header_origin_A == pytest.approx(ORIGIN)


def test_layers_carry_angstrom_so_that_the_scale_bar_is_right(volume: Volume) -> None:
    viewer = ViewerModel()
    scene = ViewerLayers(viewer)
    for layer in (layers.map_layer(volume), layers.mask_layer(volume), layers.fulcrum_layer(volume, (0.0, 5.0, 0.0))):
        scene.put(layer)
    for layer in viewer.layers:
        assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
        assert layer.axis_labels == ("z", "y", "x")
    low, high = viewer.layers[layers.MAP].extent.world
    assert np.allclose(high - low, (BOX - 1) * PIXEL)
    assert np.allclose(low[::-1], ORIGIN)


def test_a_layer_is_put_once_and_keeps_its_look(volume: Volume) -> None:
    scene = ViewerLayers(ViewerModel())
    first = scene.put(layers.map_layer(volume))
    first.colormap, first.visible = "magma", False
    second = scene.put(layers.map_layer(Volume(2 * volume.data, PIXEL, ORIGIN)))
    assert second is first
    assert (first.colormap.name, first.visible) == ("magma", False)
    assert np.array_equal(first.data, 2 * volume.data)
    scene.viewer.add_image(np.zeros((4, 4, 4)), name=layers.MASK)
    assert scene.find(layers.MASK) is None, "a person's layer of that name is not ours"
    assert scene.current_map().pixel_size_A == pytest.approx(1.0), "the selected layer counts"
    scene.viewer.layers.clear()
    with pytest.raises(InputError, match="there is no map among the layers"):
        scene.current_map()


def test_the_ellipsoid_reaches_two_sds(volume: Volume) -> None:
    covariance = np.array([[9.0, 2.0, 0.0], [2.0, 4.0, 1.0], [0.0, 1.0, 1.0]])
    (vertices, faces, _), arguments, kind = layers.ellipsoid_layer(volume, (4.0, -3.0, 2.0), covariance)
    centre = np.array(layers.to_world(volume, (4.0, -3.0, 2.0)))
    away = (vertices - centre)[:, ::-1]
    distance = np.einsum("ni,ni->n", away, np.linalg.solve(covariance, away.T).T)
    assert np.allclose(distance, layers.ELLIPSE_SDS**2)
    assert faces.max() == len(vertices) - 1
    assert kind == "surface"
    assert arguments["name"] == layers.ESTIMATE


def test_local_resolution_colours_the_surface(volume: Volume) -> None:
    pytest.importorskip("skimage")
    local = np.broadcast_to(np.linspace(4, 8, BOX, dtype=np.float32), volume.data.shape).copy()  # along x
    layer = shown(layers.local_resolution_layer(volume, local, np.ones_like(volume.data)))
    x = (layer.vertices[:, 2] - ORIGIN[0]) / PIXEL
    assert np.allclose(layer.vertex_values, 4 + 4 * np.rint(x) / (BOX - 1), atol=4 / (BOX - 1))
    assert layer.contrast_limits[0] < layer.contrast_limits[1]
    assert layer.colormap.name == "viridis_r"


def test_ellipses_and_rectangles_become_spheres_and_boxes(volume: Volume) -> None:
    middle = np.array(layers.to_world(volume, (0.0, 0.0, 0.0)))
    square = np.array([[0, -5, -5], [0, -5, 5], [0, 5, 5], [0, 5, -5]]) + middle
    shapes = Shapes([square, square], shape_type=["ellipse", "rectangle"], ndim=3)
    sphere, block = layers.shapes_from_layer(volume, shapes)
    assert isinstance(sphere, masks.Sphere)
    assert isinstance(block, masks.Cuboid)
    assert np.allclose(sphere.centre_A, 0, atol=1e-6)
    assert sphere.radius_A == pytest.approx(5)
    assert np.allclose(block.size_A, 10)
    line = Shapes([square[:2]], shape_type="line", ndim=3)
    with pytest.raises(InputError, match="contains a line: draw ellipses"):
        layers.shapes_from_layer(volume, line)


def test_a_ray_meets_the_first_voxel_above_the_threshold() -> None:
    data = np.zeros((10, 10, 10), np.float32)
    data[4:7, 5, 5] = 1.0
    found = first_point_above(data, 0.5, np.array([0.0, 5, 5]), np.array([9.0, 5, 5]))
    assert found is not None
    assert found == pytest.approx([4, 5, 5], abs=0.6)
    back = first_point_above(data, 0.5, np.array([9.0, 5, 5]), np.array([0.0, 5, 5]))
    assert back is not None
    assert back == pytest.approx([6, 5, 5], abs=0.6)
    assert first_point_above(data, 0.5, np.array([0.0, 0, 0]), np.array([9.0, 0, 0])) is None


def test_a_click_in_3d_meets_the_surface_that_is_nearest(volume: Volume) -> None:
    viewer = ViewerModel(ndisplay=3)
    layer = ViewerLayers(viewer).put(layers.map_layer(volume))
    middle = np.array(layers.to_world(volume, (2.5, -5.0, 0.0)))  # where the blob is
    ray = SimpleNamespace(position=middle - [100, 0, 0], view_direction=np.array([1.0, 0, 0]), dims_displayed=(0, 1, 2))
    found = pick_surface_point(viewer, ray)
    assert found is not None
    assert np.allclose(found[1:], middle[1:], atol=1e-6)
    depth = volume.data[tuple(np.rint(layer.world_to_data(found)).astype(int))]
    assert depth >= layer.iso_threshold
    assert found[0] < middle[0], "on the side of the eye"
    layer.visible = False
    assert pick_surface_point(viewer, ray) is None
    viewer.dims.ndisplay = 2
    assert pick_surface_point(viewer, SimpleNamespace(position=(1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)


def test_a_map_is_written_and_read_with_its_place(volume: Volume, tmp_path: Path) -> None:
    data, arguments, _ = layers.map_layer(volume)
    assert write(str(tmp_path / "a.mrc"), data, arguments) == [str(tmp_path / "a.mrc")]
    reader = get_reader(str(tmp_path / "a.mrc"))
    assert reader is not None
    ((again, where, kind),) = reader(str(tmp_path / "a.mrc"))
    assert kind == "image"
    assert np.array_equal(again, volume.data)
    assert where["scale"] == pytest.approx((PIXEL,) * 3)
    assert where["translate"] == pytest.approx(ORIGIN[::-1])


def test_labels_are_written_as_a_mask(volume: Volume, tmp_path: Path) -> None:
    labels = (volume.data > 0.3).astype(np.int32) * 7
    write(str(tmp_path / "m.mrc"), labels, {"name": "paint", "scale": (PIXEL,) * 3, "translate": ORIGIN[::-1]})
    ((data, where, _),) = read(str(tmp_path / "m.mrc"))
    assert set(np.unique(data)) == {0.0, 1.0}
    assert where["metadata"]["lrwidgets"] == "mask"


@pytest.mark.parametrize(
    ("data", "scale", "words"),
    [
        (np.zeros((4, 4)), (1.0, 1.0), "4 x 4 is not a cubic map"),
        (np.zeros((4, 4, 4)), (1.0, 1.0, 2.0), "voxels of 1 x 1 x 2 Å"),
    ],
)
def test_what_is_no_map_is_not_written(data: np.ndarray, scale: tuple[float, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        write(str(tmp_path / "no.mrc"), data, {"name": "layer", "scale": scale, "translate": (0.0,) * len(scale)})
    assert not list(tmp_path.iterdir())


def test_a_stack_is_read_as_it_is_looked_at(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    with mrcfile.new(tmp_path / "s.mrcs", stack) as file:
        file.voxel_size = 1.7
    ((data, where, _),) = read(str(tmp_path / "s.mrcs"))
    assert isinstance(data, np.memmap)
    assert np.array_equal(data[3], stack[3])
    assert where["scale"] == pytest.approx((1.0, 1.7, 1.7), rel=1e-6)


def test_particles_are_their_images(tmp_path: Path) -> None:
    from lrcore.simulation.data_set import simulate_flexible_particle

    simulate_flexible_particle(tmp_path / "p", n=20, box=24, pixel_size_A=6.0, snr=0.2)
    ((data, where, _),) = read(str(tmp_path / "p" / "particles.star"))
    assert data.shape == (20, 24, 24)
    with mrcfile.open(tmp_path / "p" / "particles.mrcs") as file:
        particles = io.read_particles(tmp_path / "p" / "particles.star")
        assert np.allclose(np.asarray(data[17]), file.data[particles.images.index[17]])
    assert where["scale"] == (1.0, 6.0, 6.0)


def test_what_is_not_ours_is_left_to_others_and_what_is_bad_is_told(tmp_path: Path) -> None:
    assert get_reader("picture.png") is None
    assert get_reader(["a.mrc", "b.png"]) is None
    bad = tmp_path / "bad.star"
    bad.write_text("nothing\n")
    with pytest.raises(InputError, match=r"bad\.star"):
        read(str(bad))


def test_only_runs_are_claimed_and_volumes_of_cryosparc_are_maps(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    assert get_reader(str(tmp_path / "other.zarr")) is None
    for half in "AB":
        io.write_volume(tmp_path / f"map_half_{half}.mrc", volume)
    row = np.zeros(1, [("uid", "u8"), ("map_half_A/path", "S20"), ("map_half_B/path", "S20")])
    row["map_half_A/path"], row["map_half_B/path"] = b"map_half_A.mrc", b"map_half_B.mrc"
    with (tmp_path / "volume.cs").open("wb") as file:
        np.save(file, row)
    found = read(str(tmp_path / "volume.cs"))
    assert [arguments["name"] for _, arguments, _ in found] == ["volume.cs, half 1", "volume.cs, half 2"]
    assert np.array_equal(found[0][0], volume.data)


def test_a_run_folder_is_its_newest_step() -> None:
    with Session(make_job(), engine=FakeEngine()) as session:
        session.run(2, wait=True)
        from lrwidgets.napari_panel.reader import step_layers

        node, step = session.load_step()
        _, first = session.load_step(session.path()[0].id)
        made = step_layers(session.job_of(node), first, step)
    names = [arguments["name"] for _, arguments, _ in made]
    assert names == [
        "whole, iteration 2",
        "half 1, iteration 2",
        "half 2, iteration 2",
        "map, iteration 2",
        "mask",
        "fulcrum",
    ]
    assert np.array_equal(made[1][0], step.half_maps.first.data)
