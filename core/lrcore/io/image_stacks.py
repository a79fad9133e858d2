"""Read selected slices of image stacks, and check all stacks before a job starts."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Int64
from lrcore.errors import InputError
from lrcore.io import mrc_maps
from lrcore.records import ImageSource, Particles

MAX_OPEN = 16
IMAGES_PER_READ = 32
"""Images per read, before conversion to float32."""
PIXEL_TOLERANCE = 0.02
"""Relative difference of pixel sizes that is accepted without a warning."""
FLOAT16_MODE = 12
"""MRC mode of float16."""


class StackReader:
    """Reader of the images of a data set by row, as float32 times their sign. Thread-safe.

    Parameters
    ----------
    images : stack, slice and sign of each row
    box : pixels
    max_open : files that are kept open at a time
    """

    def __init__(self, images: ImageSource, box: int, max_open: int = MAX_OPEN) -> None:
        self._images = images
        self._box = box
        self._max_open = max_open
        self._open: OrderedDict[int, tuple[BinaryIO, mrc_maps.MrcHeader]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> Float32:
        """Read the images of the given rows.

        Consecutive slices of a stack are read together, whatever the order of the rows.

        Parameters
        ----------
        rows : (B,) rows of the data set

        Returns
        -------
        (B, box, box) float32
            Images in the order of `rows`.

        Raises
        ------
        InputError
            If a stack is missing, truncated or of another box, or an image has NaN or infinite pixels.
        """
        out, finite = self.read_with_finite_flags(rows)
        for row in np.asarray(rows, dtype=np.int64)[~finite]:
            path, image = self._images.stacks[self._images.stack[row]], self._images.index[row] + 1
            raise InputError(f"{path}: image {image} has NaN or infinite pixels: remove it from the particle table")
        return out

    def read_with_finite_flags(
        self, rows: Sequence[int] | npt.NDArray[np.integer]
    ) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """Read the images of the given rows; return images with NaN or infinite pixels as zeros, and flag them.

        Parameters
        ----------
        rows : (B,) rows of the data set

        Returns
        -------
        images : (B, box, box) float32
        finite : (B,) False where the image had NaN or infinite pixels

        Raises
        ------
        InputError
            If a stack is missing, truncated or of another box.
        """
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), self._box, self._box), np.float32)
        finite = np.ones(len(rows), np.bool_)
        stack, index = self._images.stack[rows], self._images.index[rows]
        order = np.lexsort((index, stack))
        breaks = np.nonzero((np.diff(stack[order]) != 0) | (np.diff(index[order]) != 1))[0] + 1
        for run in np.split(order, breaks):
            for part in (run[i : i + IMAGES_PER_READ] for i in range(0, len(run), IMAGES_PER_READ)):
                self._read_run(int(stack[part[0]]), int(index[part[0]]), part, out, finite)
        sign = self._images.sign[rows]
        if (sign != 1).any():
            out *= sign[:, None, None]
        return out, finite

    def close(self) -> None:
        """Close the open files; a later `read` opens them again."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][0].close()

    def __enter__(self) -> "StackReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_run(self, stack: int, first: int, run: Int64, out: Float32, finite: npt.NDArray[np.bool_]) -> None:
        path = self._images.stacks[stack]
        with self._lock:
            try:
                file, header = self._file(stack)
                raw = np.empty((len(run), self._box, self._box), header.dtype)
                file.seek(header.offset + first * header.section_bytes)
                done = mrc_maps.read_into(file, raw)
            except OSError as error:
                raise mrc_maps.unreadable_error(path, error) from error
        if done < raw.nbytes:
            raise InputError(
                f"{path}: is truncated before image {first + 1 + done // header.section_bytes}: copy it again"
            )
        out[run] = raw
        # The sum is finite unless a pixel is not (or values overflow): far cheaper than testing every pixel.
        suspects = np.nonzero(~np.isfinite(np.einsum("bij->b", out[run])))[0]
        for i in suspects:
            if not np.isfinite(out[run[i]]).all():
                out[run[i]], finite[run[i]] = 0.0, False

    def _file(self, stack: int) -> tuple[BinaryIO, mrc_maps.MrcHeader]:
        if stack in self._open:
            self._open.move_to_end(stack)
            return self._open[stack]
        path = self._images.stacks[stack]
        header = read_stack_header(path)
        _check_box(header, self._box, "the particle table")
        while len(self._open) >= self._max_open:
            self._open.popitem(last=False)[1][0].close()
        self._open[stack] = (path.open("rb"), header)
        return self._open[stack]


def is_float16(images: ImageSource) -> bool:
    """Return whether all stacks are float16.

    Parameters
    ----------
    images : stacks of a data set

    Returns
    -------
    bool

    Raises
    ------
    InputError
        If a stack is compressed or is not an MRC file.
    """
    return all(read_stack_header(path).mode == FLOAT16_MODE for path in images.stacks)


def read_stack_header(path: Path) -> mrc_maps.MrcHeader:
    """Read the header of a stack. Raises InputError if it is compressed or is not an MRC file."""
    if path.suffix.lower() in mrc_maps.OPENERS:
        raise InputError(f"{path}: is compressed, so single images cannot be read: decompress it")
    return mrc_maps.read_header(path)


def check_stacks(particles: Particles) -> None:
    """Check that every stack of the particles exists, is readable and complete, and has the right box and length.

    Warns if the pixel size in a header differs by more than 2 % from that of the particles.

    Parameters
    ----------
    particles : particles whose stacks are checked

    Raises
    ------
    InputError
        If a stack fails a check.
    """
    images = particles.images
    order = np.lexsort((images.index, images.stack))
    last = order[np.nonzero(np.diff(images.stack[order], append=-1))[0]]
    other_pixel = []
    for row in last:
        path = images.stacks[images.stack[row]]
        header = read_stack_header(path)
        _check_box(header, particles.box, str(particles.path))
        wanted, count = int(images.index[row]) + 1, header.shape[0]
        if wanted > count:
            raise InputError(
                f"{particles.path}: row {row + 1}: image {wanted} of {path}, which has only {count} images: "
                "check that this stack belongs to the table"
            )
        require_complete_stack(header)
        pixel = header.voxel_A[0]
        if pixel > 0 and abs(pixel / particles.pixel_size_A - 1) > PIXEL_TOLERANCE:
            other_pixel.append((path, pixel))
    if other_pixel:
        path, pixel = other_pixel[0]
        more = f" (and {len(other_pixel) - 1} more stacks)" if len(other_pixel) > 1 else ""
        warnings.warn(
            f"{path}{more}: pixel size is {pixel:g} A in the header, but {particles.pixel_size_A:g} A in "
            f"{particles.path}: the latter is used",
            stacklevel=2,
        )


def _check_box(header: mrc_maps.MrcHeader, box: int, expected_by: str) -> None:
    _, rows, columns = header.shape
    if (rows, columns) != (box, box):
        raise InputError(
            f"{header.path}: images are {columns} x {rows} px, but {expected_by} has {box} px: give the matching stack"
        )


def require_complete_stack(header: mrc_maps.MrcHeader) -> None:
    """Raise InputError if the file is shorter than its header says."""
    try:
        length = header.path.stat().st_size
    except OSError as error:
        raise mrc_maps.unreadable_error(header.path, error) from error
    wanted = header.offset + header.shape[0] * header.section_bytes
    if length < wanted:
        raise InputError(f"{header.path}: is truncated: {length} bytes instead of {wanted}: copy it again")
