"""Maps: every mode and byte order that mrcfile writes is read, and what is written passes mrcfile and RELION."""

import bz2
import gzip
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.records import Volume


def _cube(n: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, n, n)).astype(np.float32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "i2", "f4", "u2", "f2"])
def test_reads_every_mode_and_byte_order(tmp_path: Path, kind: str, order: str) -> None:
    data = (np.abs(_cube()) * 20).astype(np.dtype(kind).newbyteorder(order))
    mrcfile.write(tmp_path / "map.mrc", data, voxel_size=1.234567)
    volume = io.read_volume(tmp_path / "map.mrc")
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    assert volume.data.dtype == np.float32
    assert volume.data.dtype.isnative
    assert volume.data.flags.writeable
    assert volume.pixel_size_A == 1.234567


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_reads_compressed_maps(tmp_path: Path, suffix: str, pack: object) -> None:
    data = _cube()
    mrcfile.write(tmp_path / "map.mrc", data, voxel_size=2.0)
    packed = tmp_path / f"map.mrc{suffix}"
    packed.write_bytes(pack((tmp_path / "map.mrc").read_bytes()))
    np.testing.assert_array_equal(io.read_volume(packed).data, data)


def test_a_written_map_is_valid_and_reads_back(tmp_path: Path) -> None:
    volume = Volume(_cube(), 1.244835, (10.0, -20.5, 3.25))
    path = tmp_path / "map.mrc"
    io.write_volume(path, volume)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert file.header.dmin == volume.data.min()
        assert file.header.dmax == volume.data.max()
        assert file.header.dmean == pytest.approx(volume.data.mean(), abs=1e-6)
        assert file.header.rms == pytest.approx(volume.data.std(), rel=1e-6)
        assert file.voxel_size.x == pytest.approx(1.244835)
    back = io.read_volume(path)
    np.testing.assert_array_equal(back.data, volume.data)
    assert (back.pixel_size_A, back.header_origin_A) == (volume.pixel_size_A, volume.header_origin_A)


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.mrc", "two.mrc"):
        io.write_volume(tmp_path / name, Volume(_cube(), 2.0))
    assert (tmp_path / "one.mrc").read_bytes() == (tmp_path / "two.mrc").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mrc", "two.mrc"]


def test_overwrite_can_be_refused(tmp_path: Path) -> None:
    io.write_volume(tmp_path / "map.mrc", Volume(_cube(), 2.0))
    with pytest.raises(InputError, match="exists already"):
        io.write_volume(tmp_path / "map.mrc", Volume(_cube(), 2.0), overwrite=False)


def test_apix_takes_the_place_of_the_header(tmp_path: Path) -> None:
    mrcfile.write(tmp_path / "map.mrc", _cube(), voxel_size=2.0)
    assert io.read_volume(tmp_path / "map.mrc", apix=1.7).pixel_size_A == 1.7


def test_start_of_the_grid_is_an_origin(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "map.mrc", _cube()) as file:
        file.voxel_size = 2.0
        file.nstart = (-6, 4, 0)
    assert io.read_volume(tmp_path / "map.mrc").header_origin_A == (-12.0, 8.0, 0.0)


def test_axes_in_another_order_are_turned_to_zyx(tmp_path: Path) -> None:
    data = _cube()
    with mrcfile.new(tmp_path / "map.mrc", data.transpose(1, 2, 0).copy()) as file:  # sections y, rows x, columns z
        file.voxel_size = 2.0
        file.header.mapc, file.header.mapr, file.header.maps = 3, 1, 2
    np.testing.assert_array_equal(io.read_volume(tmp_path / "map.mrc").data, data)


def test_relion_reads_what_is_written(tmp_path: Path, relion) -> None:
    volume = Volume(_cube(16), 1.5, (1.0, 2.0, 3.0))
    io.write_volume(tmp_path / "ours.mrc", volume)
    command = [relion("relion_image_handler"), "--i", "ours.mrc", "--o", "theirs.mrc", "--multiply_constant", "2"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = io.read_volume(tmp_path / "theirs.mrc")
    np.testing.assert_allclose(theirs.data, 2 * volume.data, rtol=1e-6)
    assert theirs.pixel_size_A == pytest.approx(1.5)


def test_real_maps(test_data) -> None:
    formats = test_data("formats")
    mask = io.read_volume(formats / "multibody_90" / "bodies_body_1_final.mrc.gz")
    assert (mask.box, mask.pixel_size_A, set(np.unique(mask.data))) == (90, 4.1004, {0.0, 1.0})
    with pytest.raises(InputError, match=r"clean70S.*--apix"):
        io.read_volume(formats / "relion_small" / "clean70SRibosome_vol_65p.mrc")
    assert io.read_volume(formats / "relion_small" / "clean70SRibosome_vol_65p.mrc", apix=3.0).box == 65
    half = io.read_volume(test_data("two_body") / "gt_b.mrc")  # float16
    assert (half.data.dtype, half.box, half.pixel_size_A) == (np.float32, 96, 2.0)
