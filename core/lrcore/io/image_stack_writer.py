"""Write MRC image stacks batch by batch; a failure leaves no partial file."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mrcfile.dtypes import HEADER_DTYPE

from lrcore.io.paths import atomic_write


def write_image_stack(
    path: Path,
    count: int,
    box: int,
    pixel_size_A: float,
    batches: Iterable[npt.NDArray[np.floating]],
    float16: bool = False,
) -> None:
    """Write images as an MRC stack.

    Parameters
    ----------
    path : file to write
    count : number of images
    box : pixels
    pixel_size_A : Å
    batches : (b, box, box) images, in order, `count` in all
    float16 : write half precision (MRC mode 12)

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_header(count, box, pixel_size_A, float16))
        for batch in batches:
            file.write(batch.astype("<f2" if float16 else "<f4", copy=False).tobytes())


def _header(n: int, box: int, pixel_size_A: float, float16: bool) -> bytes:
    header = np.zeros(1, HEADER_DTYPE.newbyteorder("<"))[0]
    header["nx"] = header["ny"] = header["mx"] = header["my"] = box
    header["nz"], header["mz"], header["mode"] = n, 1, 12 if float16 else 2
    header["cella"] = (box * pixel_size_A, box * pixel_size_A, pixel_size_A)
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["nversion"], header["map"], header["machst"] = 20141, b"MAP ", (0x44, 0x44, 0, 0)
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0.0, -1.0, -2.0, -1.0  # MRC2014: not known
    return bytes(header.tobytes())
