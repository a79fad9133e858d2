"""Read MRC headers of any version and byte order and cubic maps as float32; write maps reproducibly."""

import bz2
import gzip
import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt
from mrcfile.dtypes import HEADER_DTYPE

from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrcore.io.paths import atomic_write
from lrcore.records import Volume

Axis3 = tuple[float, float, float]

MODES: dict[int, type[np.generic]] = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}
Order = Literal["<", ">"]
MACHINE_STAMPS: dict[tuple[int, int], Order] = {(0x44, 0x44): "<", (0x44, 0x41): "<", (0x11, 0x11): ">"}
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
MAX_AXIS_LENGTH = 1_000_000
MAX_EXTENDED_HEADER_BYTES = 1 << 28
"""Largest extended header that is decompressed in order to skip it."""
LABEL = b"lrwidgets"
READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class MrcHeader:
    """Header of an MRC file.

    Attributes
    ----------
    path : the file
    shape : (sections, rows, columns) as stored
    mode : MRC mode
    dtype : of the samples, with their byte order
    offset : bytes before the first sample
    axes : axis (0 x, 1 y, 2 z) along which columns, rows and sections run
    voxel_A : (x, y, z) in Å; 0 where unknown
    origin_A : (x, y, z) in Å; from nxstart, nystart, nzstart if the `origin` field is zero
    """

    path: Path
    shape: tuple[int, int, int]
    mode: int
    dtype: np.dtype[Any]
    offset: int
    axes: tuple[int, int, int]
    voxel_A: Axis3
    origin_A: Axis3

    @property
    def section_bytes(self) -> int:
        """Return the bytes of one section (one image of a stack)."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading; decompress .gz and .bz2."""
    return cast(BinaryIO, OPENERS.get(path.suffix.lower(), open)(path, "rb"))


def read_header(path: str | Path) -> MrcHeader:
    """Read the header of a map or stack. Raises InputError if it is unreadable or invalid."""
    path = Path(path)
    try:
        with open_binary(path) as file:
            raw = file.read(HEADER_DTYPE.itemsize)
    except READ_ERRORS as error:
        raise unreadable_error(path, error) from error
    if len(raw) < HEADER_DTYPE.itemsize:
        raise InputError(f"{path}: is not an MRC file: it ends within the header ({len(raw)} bytes): check the file")
    return _parse_header(path, raw)


def unreadable_error(path: Path, error: Exception) -> InputError:
    """Return an error that states in one line why the system could not read a file."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputError(f"{path}: cannot be read ({reason}): check the file")


def read_into(file: BinaryIO, samples: npt.NDArray[np.generic]) -> int:
    """Fill a contiguous array from the current position of `file`, as far as it reaches; return the bytes read."""
    room = samples.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(room):
        count = file.readinto(room[done:])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done


def read_volume(path: str | Path, apix: float | None = None) -> Volume:
    """Read a cubic MRC map of mode 0, 1, 2, 6 or 12 as float32.

    Parameters
    ----------
    path : map, plain, .gz or .bz2
    apix : voxel size in Å; takes precedence over that of the header

    Returns
    -------
    Volume
        Data (n, n, n) zyx.

    Raises
    ------
    InputError
        If the file is unreadable or truncated, the map is not cubic or has NaN or infinite voxels, or neither `apix`
        nor the header gives a voxel size.
    """
    header = read_header(path)
    if len(set(header.shape)) != 1:
        z, y, x = header.shape
        raise InputError(f"{header.path}: is {x} x {y} x {z} voxels, but a map must be a cube: re-box it")
    pixel = _pixel_size(header) if apix is None else apix
    if not (pixel > 0 and math.isfinite(pixel)):
        raise InputError(f"{header.path}: the header has no voxel size: give it with --apix A_PER_VOXEL")
    data = _read_data(header)
    if not np.isfinite(data).all():
        bad = int(np.count_nonzero(~np.isfinite(data)))
        raise InputError(f"{header.path}: {bad} voxels are NaN or infinite: compute the map again")
    return Volume(data, pixel, header.origin_A, header.path)


def write_volume(path: str | Path, volume: Volume, overwrite: bool = True) -> None:
    """Write a map as float32 MRC with its voxel size, origin and statistics.

    The same map gives the same bytes; a failure leaves no partial file.

    Parameters
    ----------
    path : file to write
    volume : map
    overwrite : replace an existing file

    Raises
    ------
    InputError
        If the file exists and `overwrite` is False, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already: remove it or choose another name")
    data = np.ascontiguousarray(volume.data, dtype="<f4")
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_make_header(volume, data))
        file.write(data.data)


def _parse_header(path: Path, raw: bytes) -> MrcHeader:
    for order in _byte_orders(raw):
        fields = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order), count=1)[0]
        shape = (int(fields["nz"]), int(fields["ny"]), int(fields["nx"]))
        extended = int(fields["nsymbt"])
        if min(shape) > 0 and max(shape[1:]) <= MAX_AXIS_LENGTH and extended >= 0 and 0 <= int(fields["mode"]) <= 101:
            break
    else:
        raise InputError(f"{path}: is not an MRC file: its header is invalid: check the file")
    mode = int(fields["mode"])
    if mode not in MODES:
        raise InputError(f"{path}: MRC mode {mode} is not supported: convert it to mode 2 (float32)")
    axes = _axes(fields)
    return MrcHeader(
        path=path,
        shape=shape,
        mode=mode,
        dtype=np.dtype(MODES[mode]).newbyteorder(order),
        offset=HEADER_DTYPE.itemsize + extended,
        axes=axes,
        voxel_A=_voxel(fields, shape, axes),
        origin_A=_origin(fields, shape, axes),
    )


def _byte_orders(raw: bytes) -> tuple[Order, Order]:
    stamp = np.frombuffer(raw, HEADER_DTYPE, count=1)[0]["machst"]
    first = MACHINE_STAMPS.get((int(stamp[0]), int(stamp[1])), "<")
    return ("<", ">") if first == "<" else (">", "<")


def _axes(fields: np.void) -> tuple[int, int, int]:
    axes = tuple(int(fields[name]) - 1 for name in ("mapc", "mapr", "maps"))
    return cast(tuple[int, int, int], axes) if sorted(axes) == [0, 1, 2] else (0, 1, 2)


def _voxel(fields: np.void, shape: tuple[int, int, int], axes: tuple[int, int, int]) -> Axis3:
    stored = dict(zip(axes, shape[::-1], strict=True))
    voxel = []
    for axis, name in enumerate("xyz"):
        cells = int(fields["m" + name]) or stored[axis]
        size = float(fields["cella"][name]) / cells
        # The header stores float32, which holds six decimals: rounding makes 1.244835 read back as 1.244835.
        voxel.append(round(size, 6) if math.isfinite(size) and size > 0 else 0.0)
    return voxel[0], voxel[1], voxel[2]


def _origin(fields: np.void, shape: tuple[int, int, int], axes: tuple[int, int, int]) -> Axis3:
    origin = tuple(float(fields["origin"][name]) for name in "xyz")
    if not all(math.isfinite(value) for value in origin):
        return (0.0, 0.0, 0.0)
    if not any(origin):
        start = dict(zip(axes, (int(fields[name]) for name in ("nxstart", "nystart", "nzstart")), strict=True))
        voxel = _voxel(fields, shape, axes)
        origin = tuple(start[axis] * voxel[axis] for axis in range(3))
    return cast(Axis3, origin)


def _pixel_size(header: MrcHeader) -> float:
    x, y, z = header.voxel_A
    if max(x, y, z) - min(x, y, z) > 1e-3 * max(x, y, z) and min(x, y, z) > 0:
        raise InputError(f"{header.path}: voxels of {x} x {y} x {z} A are not cubic: resample the map")
    return x


def _read_data(header: MrcHeader) -> Float32:
    _require_room(header)
    stored = np.empty(header.shape, header.dtype)
    try:
        with open_binary(header.path) as file:
            file.seek(header.offset)
            done = read_into(file, stored)
    except READ_ERRORS as error:
        raise unreadable_error(header.path, error) from error
    if done < stored.nbytes:
        raise InputError(
            f"{header.path}: is truncated: {done} of {stored.nbytes} bytes of data: copy or compute it again"
        )
    zyx = [2 - header.axes.index(axis) for axis in (2, 1, 0)]
    return np.ascontiguousarray(stored.transpose(zyx), dtype=np.float32)


def _require_room(header: MrcHeader) -> None:
    """Raise InputError if the file is shorter than its header states, or the map does not fit into memory.

    The length of a compressed file cannot be checked; it is read only as far as its header states.
    """
    wanted = header.shape[0] * header.section_bytes
    available = header.path.stat().st_size - header.offset
    packed = header.path.suffix.lower() in OPENERS
    if not packed and available < wanted:
        raise InputError(
            f"{header.path}: is truncated: {available} of {wanted} bytes of data: copy or compute it again"
        )
    if packed and header.offset > MAX_EXTENDED_HEADER_BYTES:
        raise InputError(f"{header.path}: its extended header has {header.offset} bytes: decompress the file first")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 2 * wanted > memory:
        sizes = f"{wanted / 2**30:.0f} GB, but the memory is {memory / 2**30:.0f} GB"
        raise InputError(f"{header.path}: the map has {sizes}: re-box it, or check its header")


def _make_header(volume: Volume, data: Float32) -> bytes:
    header = np.zeros(1, HEADER_DTYPE.newbyteorder("<"))[0]
    for axis, size in zip("xyz", data.shape[::-1], strict=True):
        header["n" + axis] = header["m" + axis] = size
        header["cella"][axis] = size * volume.pixel_size_A
        header["origin"][axis] = volume.header_origin_A["xyz".index(axis)]
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mode"], header["mapc"], header["mapr"], header["maps"] = 2, 1, 2, 3
    header["ispg"], header["nversion"], header["map"], header["machst"] = 1, 20141, b"MAP ", (0x44, 0x44, 0, 0)
    header["dmin"], header["dmax"] = data.min(), data.max()
    mean = data.mean(dtype=np.float64)
    squares = sum(float(np.square(section - mean).sum()) for section in data)
    header["dmean"], header["rms"] = mean, math.sqrt(squares / data.size)
    header["nlabl"] = 1
    header["label"][0] = LABEL
    return cast(bytes, header.tobytes())
