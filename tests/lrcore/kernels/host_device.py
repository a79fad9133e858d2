"""A device without a GPU: the CUDA sources, compiled as plain C++ with `host_device.h`, work on NumPy arrays."""

import ctypes
import functools
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lrcore.compute.backend import Backend, get_backend, kernels_of
from lrcore.errors import InputError
from lrcore.kernels import gpu

HEADER = Path(__file__).with_name("host_device.h")
FLAGS = ("-std=c++17", "-O2", "-w", "-shared", "-fPIC", "-U_FORTIFY_SOURCE")  # which forbids jumps between fibers
COMPILER = shutil.which("g++")


def has_gpu() -> bool:
    """Whether there is a GPU to run on as well."""
    try:
        get_backend("cuda")
    except InputError:
        return False
    return True


def make_host_device(folder: Path, backwards: bool = False) -> gpu.Device:
    """A Device that keeps its compiled kernels in `folder`; threads of a block run in order, or backwards."""

    def launch(name: str, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        library = compile_kernels(folder, name)
        values = [a if isinstance(a, np.ndarray) else np.array(a) for a in arguments]
        pointers = [ctypes.c_void_p(v.ctypes.data) if v.ndim else v.ctypes.data_as(ctypes.c_void_p) for v in values]
        boxed = [ctypes.addressof(p) if v.ndim else p.value for p, v in zip(pointers, values, strict=True)]
        sizes = (ctypes.c_int * len(values))(*[8 if v.ndim else v.itemsize for v in values])
        wrong = getattr(library, f"check_{kernel}")(sizes, len(values))
        assert wrong == 0, f"{kernel}: argument {wrong} has another size than the kernel's"
        packed = (ctypes.c_void_p * len(values))(*boxed)
        stuck = getattr(library, f"launch_{kernel}")(blocks, threads, shared, int(backwards), packed)
        assert stuck == 0, f"{kernel}: a barrier was not reached by all threads"

    return gpu.Device(np, launch)


@functools.cache
def compile_kernels(folder: Path, name: str) -> ctypes.CDLL:
    """The kernels of one source."""
    text = gpu.kernel_source(name)
    kernels = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(', text)
    code = f'#include "{HEADER}"\n' + text + "".join(f"\nLAUNCHER({kernel})" for kernel in kernels) + "\n"
    path = folder / f"{name}.cpp"
    path.write_text(code)
    subprocess.run([str(COMPILER), *FLAGS, "-o", str(path.with_suffix(".so")), str(path)], check=True)
    return ctypes.CDLL(str(path.with_suffix(".so")))


class DeviceArray(np.ndarray):
    """An array that is as wary of NumPy's as CuPy's are: no mixing, no silent way back to the host."""

    def get(self) -> np.ndarray:
        return np.array(self.view(np.ndarray))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if out is not None:
            options["out"] = tuple(_plain(o) for o in out)
        return _wrapped(getattr(ufunc, method)(*[_plain(i) for i in inputs], **options))

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        return _wrapped(function(*[_plain(a) for a in arguments], **{key: _plain(v) for key, v in options.items()}))

    def __getitem__(self, key: Any) -> Any:
        return _wrapped(self.view(np.ndarray)[_plain(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.view(np.ndarray)[_plain(key)] = _plain(value)


def _plain(value: Any) -> Any:
    """What the device hands to NumPy underneath."""
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the host among those of the device")
    return value


def _wrapped(value: Any) -> Any:
    return value.view(DeviceArray) if isinstance(value, np.ndarray) else value


def _asarray(array: Any, dtype: Any = None) -> DeviceArray:
    if isinstance(array, DeviceArray):
        return array.astype(dtype or array.dtype, copy=False)
    return np.array(array, dtype).view(DeviceArray)


ARRAYS: Any = SimpleNamespace(
    asarray=_asarray,
    ascontiguousarray=lambda array: np.ascontiguousarray(array.view(np.ndarray)).view(DeviceArray),
    empty=lambda shape, dtype: np.empty(shape, dtype).view(DeviceArray),
    full=lambda shape, value, dtype: np.full(shape, value, dtype).view(DeviceArray),
    zeros=lambda shape, dtype: np.zeros(shape, dtype).view(DeviceArray),
    ones_like=lambda array: np.ones_like(array.view(np.ndarray)).view(DeviceArray),
    concatenate=np.concatenate,
    fft=np.fft,
)
"""The array module of a device with a memory of its own."""


def host_backend(folder: Path, threads: int) -> tuple[gpu.Device, Backend]:
    """The "cuda" backend without a GPU. Its kernels take nothing but arrays of the device."""
    here = make_host_device(folder)

    def launch(name: str, kernel: str, blocks: int, count: int, shared: int, arguments: tuple[Any, ...]) -> None:
        strangers = [type(a) for a in arguments if isinstance(a, np.ndarray) and not isinstance(a, DeviceArray)]
        assert not strangers, f"{kernel}: an argument is not on the device"
        here.launch(name, kernel, blocks, count, shared, arguments)

    backend = Backend("cuda", ARRAYS, np.fft, kernels_of("cuda"), threads)
    return gpu.Device(ARRAYS, launch), backend
