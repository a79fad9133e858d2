"""Image stacks: only the slices asked for are read, and every stack is checked before the work begins."""

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
"""Images that are read at once, before they become float32."""
PIXEL_TOLERANCE = 0.02
FLOAT16_MODE = 12
"""MRC mode."""


class StackReader:
    """Reads images of a data set by row, as float32 times their sign, a few files open at a time. Thread-safe."""

    def __init__(self, images: ImageSource, box: int, max_open: int = MAX_OPEN) -> None:
        self._images = images
        self._box = box
        self._max_open = max_open
        self._open: OrderedDict[int, tuple[BinaryIO, mrc_maps.MrcHeader]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> Float32:
        """Images of the given rows, in their order: (len(rows), box, box) float32.

        Neighbouring slices of a stack are read in one go, whatever the order of the rows. Raises InputError if a
        stack has vanished, is cut short or of another box, or if an image holds NaN or infinite pixels.
        """
        out, finite = self.read_with_finite_flags(rows)
        for row in np.asarray(rows, dtype=np.int64)[~finite]:
            path, image = self._images.stacks[self._images.stack[row]], self._images.index[row] + 1
            raise InputError(f"{path}: image {image} holds NaN or infinite pixels: remove it from the particles")
        return out

    def read_with_finite_flags(
        self, rows: Sequence[int] | npt.NDArray[np.integer]
    ) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """The same, but an image that holds NaN or infinite pixels is all 0; and which are finite, (len(rows),)."""
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), self._box, self._box), np.float32)
        finite = np.ones(len(rows), np.bool_)
        stack, index = self._images.stack[rows], self._images.index[rows]
        order = np.lexsort((index, stack))
        broken = np.nonzero((np.diff(stack[order]) != 0) | (np.diff(index[order]) != 1))[0] + 1
        for run in np.split(order, broken):
            for part in (run[i : i + IMAGES_PER_READ] for i in range(0, len(run), IMAGES_PER_READ)):
                self._read_run(int(stack[part[0]]), int(index[part[0]]), part, out, finite)
        sign = self._images.sign[rows]
        if (sign != 1).any():
            out *= sign[:, None, None]
        return out, finite

    def close(self) -> None:
        """Close the files; a later `read` opens them again."""
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
            raise InputError(f"{path}: ends before image {first + 1 + done // header.section_bytes}: copy it again")
        out[run] = raw
        # A sum over an image is finite unless a pixel is not, or all are huge: far cheaper than a look at every pixel.
        doubtful = np.nonzero(~np.isfinite(np.einsum("bij->b", out[run])))[0]
        for i in doubtful:
            if not np.isfinite(out[run[i]]).all():
                out[run[i]], finite[run[i]] = 0.0, False

    def _file(self, stack: int) -> tuple[BinaryIO, mrc_maps.MrcHeader]:
        if stack in self._open:
            self._open.move_to_end(stack)
            return self._open[stack]
        path = self._images.stacks[stack]
        header = read_stack_header(path)
        _check_box(header, self._box, "the particles")
        while len(self._open) >= self._max_open:
            self._open.popitem(last=False)[1][0].close()
        self._open[stack] = (path.open("rb"), header)
        return self._open[stack]


def is_float16(images: ImageSource) -> bool:
    """Whether every stack holds float16. Raises InputError as `stack_header` does."""
    return all(read_stack_header(path).mode == FLOAT16_MODE for path in images.stacks)


def read_stack_header(path: Path) -> mrc_maps.MrcHeader:
    """Header of a stack. Raises InputError if it is compressed or no MRC file."""
    if path.suffix.lower() in mrc_maps.OPENERS:
        raise InputError(f"{path}: is compressed, so single images cannot be read: unpack it")
    return mrc_maps.read_header(path)


def check_stacks(particles: Particles) -> None:
    """Check every stack of the particles before any work: there, readable, whole, of the right box and length.

    Warns in one line where the pixel size of a header differs by more than 2 %. Raises InputError otherwise.
    """
    images = particles.images
    order = np.lexsort((images.index, images.stack))
    last = order[np.nonzero(np.diff(images.stack[order], append=-1))[0]]
    other_pixel = []
    for row in last:
        path = images.stacks[images.stack[row]]
        header = read_stack_header(path)
        _check_box(header, particles.box, str(particles.path))
        wanted, held = int(images.index[row]) + 1, header.shape[0]
        if wanted > held:
            raise InputError(
                f"{particles.path}: row {row + 1} says image {wanted} of {path}, which holds only {held}: "
                "check that this is the stack that belongs to the table"
            )
        require_complete_stack(header)
        pixel = header.voxel_A[0]
        if pixel > 0 and abs(pixel / particles.pixel_size_A - 1) > PIXEL_TOLERANCE:
            other_pixel.append((path, pixel))
    if other_pixel:
        path, pixel = other_pixel[0]
        more = f" (and {len(other_pixel) - 1} more stacks)" if len(other_pixel) > 1 else ""
        warnings.warn(
            f"{path}{more}: the header says {pixel:g} A per pixel, {particles.path} {particles.pixel_size_A:g} A: "
            "the latter is used",
            stacklevel=2,
        )


def _check_box(header: mrc_maps.MrcHeader, box: int, who: str) -> None:
    _, rows, columns = header.shape
    if (rows, columns) != (box, box):
        raise InputError(
            f"{header.path}: size {columns} px x {rows} px, but {who} say {box} px: give the stack they were made from"
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
