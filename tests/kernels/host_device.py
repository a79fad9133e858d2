"""A device without a GPU: the CUDA sources, compiled as plain C++ with `host_device.h`, work on NumPy arrays."""

import ctypes
import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from lrcore.backend import pick
from lrcore.errors import InputError
from lrcore.kernels import device

HEADER = Path(__file__).with_name("host_device.h")
FLAGS = ("-std=c++17", "-O2", "-w", "-shared", "-fPIC")
COMPILER = shutil.which("g++")


def has_gpu() -> bool:
    """Whether there is a GPU to run on as well."""
    try:
        pick("cuda")
    except InputError:
        return False
    return True


def host_device(folder: Path, backwards: bool = False) -> device.Device:
    """A Device that keeps its compiled kernels in `folder`; threads of a block run in order, or backwards."""

    def launch(name: str, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        library = compiled(folder, name)
        values = [a if isinstance(a, np.ndarray) else np.array(a) for a in arguments]
        pointers = [ctypes.c_void_p(v.ctypes.data) if v.ndim else v.ctypes.data_as(ctypes.c_void_p) for v in values]
        boxed = [ctypes.addressof(p) if v.ndim else p.value for p, v in zip(pointers, values, strict=True)]
        sizes = (ctypes.c_int * len(values))(*[8 if v.ndim else v.itemsize for v in values])
        wrong = getattr(library, f"check_{kernel}")(sizes, len(values))
        assert wrong == 0, f"{kernel}: argument {wrong} has another size than the kernel's"
        packed = (ctypes.c_void_p * len(values))(*boxed)
        stuck = getattr(library, f"launch_{kernel}")(blocks, threads, shared, int(backwards), packed)
        assert stuck == 0, f"{kernel}: a barrier was not reached by all threads"

    return device.Device(np, launch, MemoryError)


@functools.cache
def compiled(folder: Path, name: str) -> ctypes.CDLL:
    """The kernels of one source."""
    text = device.source(name)
    kernels = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(', text)
    code = f'#include "{HEADER}"\n' + text + "".join(f"\nLAUNCHER({kernel})" for kernel in kernels) + "\n"
    path = folder / f"{name}.cpp"
    path.write_text(code)
    subprocess.run([str(COMPILER), *FLAGS, "-o", str(path.with_suffix(".so")), str(path)], check=True)
    return ctypes.CDLL(str(path.with_suffix(".so")))
