"""Image stacks: only the slices asked for are read, few files are open, and the memory stays that of the batch."""

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore import io
from lrcore.io import mrc_maps
from lrcore.records import ImageSource

BOX = 10


def _images(paths: list[Path], counts: list[int], sign: float = 1.0) -> ImageSource:
    stack = np.repeat(np.arange(len(paths)), counts).astype(np.int32)
    index = np.concatenate([np.arange(count) for count in counts])
    return ImageSource(tuple(paths), stack, index, np.full(len(index), sign, np.float32))


def _stacks(folder: Path, kinds: list[str], count: int = 7) -> tuple[ImageSource, np.ndarray]:
    rng = np.random.default_rng(1)
    paths, data = [], []
    for number, kind in enumerate(kinds):
        paths.append(folder / f"{number}.mrcs")
        data.append((np.abs(rng.normal(size=(count, BOX, BOX))) * 30).astype(kind))
        mrcfile.write(paths[-1], data[-1])
    return _images(paths, [count] * len(kinds)), np.concatenate([part.astype(np.float32) for part in data])


def test_any_rows_in_any_order_from_stacks_of_every_kind(tmp_path: Path) -> None:
    images, data = _stacks(tmp_path, ["<f4", ">f4", "<f2", ">f2", "i1", "<i2", ">i2", "<u2", ">u2"])
    rng = np.random.default_rng(2)
    with io.StackReader(images, BOX, max_open=3) as reader:
        for rows in (np.arange(len(data)), rng.permutation(len(data)), rng.integers(0, len(data), 40), [5], []):
            got = reader.read(rows)
            np.testing.assert_array_equal(got, data[np.asarray(rows, dtype=int)])
            assert got.dtype == np.float32
            assert got.dtype.isnative


def test_neighbouring_slices_are_read_in_one_go(tmp_path: Path, monkeypatch) -> None:
    images, data = _stacks(tmp_path, ["f4", "f2"])
    reads = []
    fill = mrc_maps.read_into
    monkeypatch.setattr(mrc_maps, "read_into", lambda file, samples: reads.append(len(samples)) or fill(file, samples))
    rows = np.random.default_rng(5).permutation(len(data))
    np.testing.assert_array_equal(io.StackReader(images, BOX).read(rows), data[rows])
    assert reads == [7, 7]


def test_sign_multiplies(tmp_path: Path) -> None:
    images, data = _stacks(tmp_path, ["f4"])
    sign = np.where(np.arange(7) % 2, -1, 1).astype(np.float32)
    images = ImageSource(images.stacks, images.stack, images.index, sign)
    np.testing.assert_array_equal(io.StackReader(images, BOX).read(range(7)), data * sign[:, None, None])


def test_an_extended_header_is_skipped(tmp_path: Path) -> None:
    data = np.random.default_rng(4).normal(size=(3, BOX, BOX)).astype(np.float32)
    with mrcfile.new(tmp_path / "a.mrcs", data) as file:
        file.set_extended_header(np.zeros(100, "V16"))
    np.testing.assert_array_equal(io.StackReader(_images([tmp_path / "a.mrcs"], [3]), BOX).read([2, 0]), data[[2, 0]])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_few_files_are_open(tmp_path: Path) -> None:
    images, data = _stacks(tmp_path, ["f4"] * 30, count=2)
    before = len(os.listdir("/proc/self/fd"))
    with io.StackReader(images, BOX, max_open=4) as reader:
        np.testing.assert_array_equal(reader.read(range(60)), data)
        assert len(os.listdir("/proc/self/fd")) - before <= 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_is_that_of_the_batch(tmp_path: Path, sparse_stack) -> None:
    sparse_stack(tmp_path / "big.mrcs", 60_000, 256)  # 4 GB that take no room on disk
    images = _images([tmp_path / "big.mrcs"], [60_000])
    tracemalloc.start()
    with io.StackReader(images, 256) as reader:
        reader.read([0, 30_000, 59_999])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_threads_share_a_reader(tmp_path: Path) -> None:
    images, data = _stacks(tmp_path, ["f4", "f2", ">f4", "i2"])
    rng = np.random.default_rng(3)
    orders = [rng.permutation(len(data)) for _ in range(40)]
    with io.StackReader(images, BOX, max_open=2) as reader, ThreadPoolExecutor(4) as pool:
        for order, got in zip(orders, pool.map(reader.read, orders), strict=True):
            np.testing.assert_array_equal(got, data[order])


def test_another_pixel_size_in_the_header_is_a_warning(make) -> None:
    make.stack(voxel=make.pixel * 1.1)
    with pytest.warns(
        UserWarning, match=r"particles\.mrcs: pixel size is 1\.65 A in the header, but 1\.5 A in"
    ) as caught:
        particles = io.read_particles(make.star())
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert particles.pixel_size_A == make.pixel


def test_no_pixel_size_or_nearly_the_same_is_no_warning(make, recwarn) -> None:
    for voxel in (0.0, make.pixel * 1.015):
        make.stack(voxel=voxel)
        io.read_particles(make.star())
    assert not recwarn.list


def test_real_float16_stack(test_data) -> None:
    particles = io.read_particles(test_data("pol2_stalk") / "particles.star")
    rows = np.array([1499, 3, 4, 5, 700])
    with mrcfile.mmap(test_data("pol2_stalk") / "particles.mrcs") as file:
        expected = np.array(file.data[particles.images.index[rows]])
    assert expected.dtype == np.float16
    np.testing.assert_array_equal(io.StackReader(particles.images, particles.box).read(rows), expected)
