"""What the device twins share: sources that are compiled once, arrays on their way up and down, too little memory.

CuPy is imported when a device is first asked for, and nowhere else among the kernels. Images and slices stay where
the images (the rotations of slices) are: NumPy in, NumPy out; CuPy in, CuPy out. What is found about an image
(scores, modes, sums over shells) comes back as NumPy. A volume that serves many calls is uploaded once by the caller.
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
from lrcore.kernels.constants import MAX_MODES, POLISH_STEPS, POLISH_TOLERANCE, TOLERANCE

FOLDER = Path(__file__).parent
NVRTC_OPTIONS = ("--std=c++17", "--use_fast_math")
TILE = 512
"""Samples that pass through a block's shared memory at a time."""
CONSTANTS = {
    "PADDING": PADDING,
    "KEPT": MAX_MODES,
    "POLISH_STEPS": POLISH_STEPS,
    "POLISHED": POLISH_TOLERANCE,
    "TOLERANCE": TOLERANCE,
    "TILE": TILE,
}
"""What the sources take from here and from the contracts."""
THREADS = 128
"""Threads of a block: a multiple of 32."""
SHARED_BYTES = 40 << 10
"""Dynamic shared memory of a block at most: every GPU has 48 kB, and the kernels keep some for themselves."""


@dataclass(frozen=True)
class Device:
    """xp: its array module. launch(source, kernel, blocks, threads, shared bytes, arguments)."""

    xp: ModuleType
    launch: Callable[[str, str, int, int, int, tuple[Any, ...]], None]


@functools.cache
def current_device() -> Device:
    """The GPU that CuPy has chosen."""
    import cupy

    @functools.cache
    def function(name: str, kernel: str) -> Any:
        return cupy.RawModule(code=kernel_source(name), options=NVRTC_OPTIONS).get_function(kernel)

    def launch(name: str, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        function(name, kernel)((blocks,), (threads,), arguments, shared_mem=shared)

    return Device(cupy, launch)


def kernel_source(name: str) -> str:
    """The CUDA C++ of a kernel's folder in one text, since CuPy's cache does not look into what is included."""
    constants = "".join(f"#define {key} {value}\n" for key, value in CONSTANTS.items())
    files = (FOLDER / "common.cuh", *sorted((FOLDER / name).glob("*.cuh")), FOLDER / name / "cuda.cu")
    return constants + "".join(f'#line 1 "{path.parent.name}/{path.name}"\n{path.read_text("utf-8")}' for path in files)


def launch(name: str, kernel: str, blocks: int, *arguments: Any, shared: int = 0) -> None:
    """Start a kernel of the source `name` on that many blocks. Scalars are NumPy's, of the kernel's own types."""
    if blocks > 0:
        current_device().launch(name, kernel, blocks, THREADS, shared, arguments)


def array_module() -> Any:
    """The device's array module."""
    return current_device().xp


def as_device_array(array: Any, dtype: npt.DTypeLike) -> Any:
    """The array on the device, contiguous; itself if it is so already."""
    xp = current_device().xp
    return xp.ascontiguousarray(xp.asarray(array, dtype=dtype))


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
    """An array on the device, not initialised."""
    return current_device().xp.empty(shape, dtype=dtype)


def full(shape: tuple[int, ...], value: float, dtype: npt.DTypeLike) -> Any:
    """An array on the device, all of one value."""
    return current_device().xp.full(shape, value, dtype=dtype)


def volume_shape(data: Any) -> tuple[np.int32, np.int32]:
    """Planes and row of a FourierVolume's data, for a kernel."""
    return np.int32(data.shape[0]), np.int32(data.shape[2])


def block_count(count: int) -> int:
    """Blocks that `count` threads fill."""
    return -(-count // THREADS)


def turns_to_fixed_point(turns: Any) -> Any:
    """Angles in turns as 32-bit fractions: whole turns drop out, products with an integer wrap round."""
    return np.rint((turns - np.floor(turns)) * 2.0**32).astype(np.int64).astype(np.uint32)


def require_samples_within(volume: FourierVolume, samples: FourierSamples, count: int) -> None:
    """Raise ValueError when the first `count` samples do not lie within what the volume can be read up to."""
    radius = float(
        np.sqrt((as_numpy(samples.kx[:count]) ** 2.0 + as_numpy(samples.ky[:count]) ** 2.0).max(initial=0.0))
    )
    if radius > volume.limit:
        raise ValueError(f"samples reach |k| = {radius:.1f}, but the volume can be read up to {volume.limit}")


def run_in_batches(run: Callable[[slice], tuple[Any, ...]], batch: int, stay: bool = True) -> tuple[Any, ...]:
    """The outputs of `run` over a batch, as NumPy unless they stay. When memory is short, in halves and halves of them.

    run(rows) returns device arrays whose first axis is that of the rows, and must be repeatable until it succeeds.
    Raises InputError when there is no room for one.
    """
    found: list[tuple[Any, ...]] = []
    begin, size = 0, batch
    while not found or begin < batch:
        try:
            found.append(
                tuple(array if stay else as_numpy(array) for array in run(slice(begin, min(begin + size, batch))))
            )
        except MemoryError as error:
            if size <= 1:
                raise InputError(f"the GPU has too little memory for one image: {error}; use --backend cpu") from None
            size = (size + 1) // 2
            _warn_short()
        else:
            begin += size
    if len(found) == 1:
        return found[0]
    xp = array_module() if stay else np
    return tuple(xp.concatenate(parts) for parts in zip(*found, strict=True))


@functools.cache
def _warn_short() -> None:
    """Once."""
    warnings.warn("the GPU is short of memory: images go in smaller batches", RuntimeWarning, stacklevel=3)


def is_on_device(array: Any) -> bool:
    """Whether it is an array of the device's."""
    return hasattr(array, "get")


def as_numpy(array: Any) -> npt.NDArray[Any]:
    """The array as NumPy."""
    return array.get() if is_on_device(array) else np.asarray(array)
