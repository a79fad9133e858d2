"""Compile and start the CUDA kernels, move arrays to and from the GPU, and cope with too little memory.

CuPy is imported when the GPU is first used, and nowhere else among the kernels. Images and slices are returned where
the input images (the rotations, for slices) are: NumPy in, NumPy out; CuPy in, CuPy out. Results about an image
(scores, modes, sums over shells) are returned as NumPy. A volume that serves many calls is uploaded once by the caller.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.constants import (
    CURVATURE_RATIO,
    FIRST_CONTRACTION,
    MAX_MODES,
    POLISH_STEPS,
    POLISH_TOLERANCE,
    TOLERANCE,
)

FOLDER = Path(__file__).parent
NVRTC_OPTIONS = ("--std=c++17", "--use_fast_math")
TILE = 512
"""Samples in the shared memory of a block at a time."""
CONSTANTS = {
    "PADDING": PADDING,
    "MAX_MODES": MAX_MODES,
    "POLISH_STEPS": POLISH_STEPS,
    "POLISH_TOLERANCE": POLISH_TOLERANCE,
    "FIRST_CONTRACTION": FIRST_CONTRACTION,
    "CURVATURE_RATIO": CURVATURE_RATIO,
    "TOLERANCE": TOLERANCE,
    "TILE": TILE,
}
"""Constants that are defined in Python and used in the CUDA sources, as macros."""
THREADS = 128
"""Threads in a block: a multiple of 32."""
SHARED_BYTES = 40 << 10
"""Maximum dynamic shared memory of a block: every GPU has 48 kB, of which the kernels use some statically."""


@dataclass(frozen=True)
class Device:
    """A device that kernels run on.

    Attributes
    ----------
    xp : its array module
    launch : function of (folder, kernel, blocks, threads, shared bytes, arguments) that starts a kernel
    """

    xp: ModuleType
    launch: Callable[[str, str, int, int, int, tuple[Any, ...]], None]


@functools.cache
def current_device() -> Device:
    """Return the GPU that CuPy has chosen."""
    import cupy

    @functools.cache
    def function(name: str, kernel: str) -> Any:
        return cupy.RawModule(code=kernel_source(name), options=NVRTC_OPTIONS).get_function(kernel)

    def launch(name: str, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        function(name, kernel)((blocks,), (threads,), arguments, shared_mem=shared)

    return Device(cupy, launch)


def kernel_source(name: str) -> str:
    """Return the CUDA C++ of a kernel's folder as one text, because CuPy's cache ignores changes in included files."""
    constants = "".join(f"#define {key} {value}\n" for key, value in CONSTANTS.items())
    files = (FOLDER / "common.cuh", *sorted((FOLDER / name).glob("*.cuh")), FOLDER / name / "cuda.cu")
    return constants + "".join(f'#line 1 "{path.parent.name}/{path.name}"\n{path.read_text("utf-8")}' for path in files)


def launch(name: str, kernel: str, blocks: int, *arguments: Any, shared: int = 0) -> None:
    """Start a kernel of the folder `name` on a number of blocks. Scalars are NumPy scalars of the kernel's types."""
    if blocks > 0:
        current_device().launch(name, kernel, blocks, THREADS, shared, arguments)


def array_module() -> Any:
    """Return the array module of the device."""
    return current_device().xp


def as_device_array(array: Any, dtype: npt.DTypeLike) -> Any:
    """Return the array contiguous and on the device; the array itself if it already is."""
    xp = current_device().xp
    return xp.ascontiguousarray(xp.asarray(array, dtype=dtype))


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
    """Return an uninitialised array on the device."""
    return current_device().xp.empty(shape, dtype=dtype)


def full(shape: tuple[int, ...], value: float, dtype: npt.DTypeLike) -> Any:
    """Return an array on the device that is filled with a value."""
    return current_device().xp.full(shape, value, dtype=dtype)


def volume_shape(data: Any) -> tuple[np.int32, np.int32]:
    """Return the number of planes and the row length of a FourierVolume's data, for a kernel."""
    return np.int32(data.shape[0]), np.int32(data.shape[2])


def block_count(count: int) -> int:
    """Return the number of blocks for `count` threads."""
    return -(-count // THREADS)


def turns_to_fixed_point(turns: Any) -> Any:
    """Convert angles in turns to 32-bit fractions: whole turns vanish, products with integers wrap without rounding."""
    return np.rint((turns - np.floor(turns)) * 2.0**32).astype(np.int64).astype(np.uint32)


def require_samples_within(volume: FourierVolume, samples: FourierSamples, count: int) -> None:
    """Raise ValueError when the first `count` samples are beyond the limit up to which the volume can be read."""
    radius = float(
        np.sqrt((as_numpy(samples.kx[:count]) ** 2.0 + as_numpy(samples.ky[:count]) ** 2.0).max(initial=0.0))
    )
    if radius > volume.limit:
        raise ValueError(f"samples reach |k| = {radius:.1f}, but the volume can be read up to {volume.limit}")


def run_in_batches(run: Callable[[slice], tuple[Any, ...]], batch: int, stay: bool = True) -> tuple[Any, ...]:
    """Run a kernel over a batch of images, in smaller batches when memory is short.

    Parameters
    ----------
    run : function of a slice of rows that returns device arrays with these rows as first axis; it is called again with
        fewer rows when it raises MemoryError
    batch : number of rows
    stay : leave the results on the device instead of converting them to NumPy

    Returns
    -------
    The arrays of all rows, concatenated.

    Raises
    ------
    InputError
        When there is too little memory for one row.
    """
    results: list[tuple[Any, ...]] = []
    begin, size = 0, batch
    while not results or begin < batch:
        try:
            results.append(
                tuple(array if stay else as_numpy(array) for array in run(slice(begin, min(begin + size, batch))))
            )
        except MemoryError as error:
            if size <= 1:
                raise InputError(f"the GPU has too little memory for one image: {error}; use --backend cpu") from None
            size = (size + 1) // 2
            _warn_about_memory()
        else:
            begin += size
    if len(results) == 1:
        return results[0]
    xp = array_module() if stay else np
    return tuple(xp.concatenate(parts) for parts in zip(*results, strict=True))


@functools.cache
def _warn_about_memory() -> None:
    """Warn once that the GPU is short of memory."""
    warnings.warn("the GPU is short of memory: images are processed in smaller batches", RuntimeWarning, stacklevel=3)


def is_on_device(array: Any) -> bool:
    """Return whether an array is on the device."""
    return hasattr(array, "get")


def as_numpy(array: Any) -> npt.NDArray[Any]:
    """Return the array as NumPy."""
    return array.get() if is_on_device(array) else np.asarray(array)
