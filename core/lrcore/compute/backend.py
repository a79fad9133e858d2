"""Choose where the hot loops run: on the CPU, on a GPU, or in plain NumPy.

Kernels are imported at their first call, so that importing lrcore compiles nothing.
"""

import ctypes
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import FourierVolume

LAST_COMPILED = "find_posterior_modes"
"""Kernel that a refinement compiles after all others of its search."""
COMPILATION_S = 60.0
"""Usual time of compiling the kernels of a refinement, on one core."""


@dataclass(frozen=True)
class Kernels:
    """The kernels of a backend; the contract of each is in the docstring of its folder in `lrcore.kernels`."""

    project_slices: Callable[..., Any]
    backproject_images: Callable[..., Any]
    search_lattice: Callable[..., Any]
    evaluate_with_derivatives: Callable[..., Any]
    evaluate_likelihood: Callable[..., Any]
    find_posterior_modes: Callable[..., Any]
    compute_ctf: Callable[..., Any]
    whiten_images: Callable[..., Any]
    whiten_sidebands: Callable[..., Any]
    whiten_windows: Callable[..., Any]
    subtract_model: Callable[..., Any]
    correlate_with_model: Callable[..., Any]
    pack_windows: Callable[..., Any]
    unpack_windows: Callable[..., Any]
    search_samples: Callable[..., Any]


class MapReduceInterface(Protocol):
    """Map-reduce over groups of parts: each group gives one result. It ends with its with block.

    Groups are numbered in the order in which they are added, from 0.
    """

    def __enter__(self) -> "MapReduceInterface": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add_group(self, shared: Any, parts: Sequence[Any], weights: Sequence[int]) -> None:
        """Start to work on a group.

        Parameters
        ----------
        shared : what all parts of the group need
        parts : one argument of the work function for each part
        weights : contribution of each part to `done`
        """

    @property
    def done(self) -> int:
        """Sum of the weights of all finished parts."""

    def wait(self, number: int) -> Iterator[None]:
        """Wait until a group is done; yields often, so that the caller can report progress or stop."""

    def result(self, number: int) -> Any:
        """Return the merged result of a group. It can be taken once, since it is not kept."""


class WorkerPool(Protocol):
    """Workers that process images in place of this process; see `lrcore.compute.workers`."""

    def map_reduce(self, work: Callable[..., Any], merge: Callable[[Any, Any], Any]) -> MapReduceInterface:
        """Open a map-reduce.

        Parameters
        ----------
        work : work(shared, part, backend), a generator that yields progress and returns the result of a part
        merge : merge(a, b), the combination of two results

        Returns
        -------
        A context manager; see `MapReduceInterface`.
        """


@dataclass(frozen=True)
class Backend:
    """Array module, FFTs and kernels of a device, and how much work it takes at a time.

    Attributes
    ----------
    name : "cpu", "cuda" or "reference"
    xp : array module of the backend, NumPy or CuPy
    fft : its FFTs, with the function names of scipy.fft
    kernels : the compiled loops
    threads : threads of FFTs and compiled loops on the host
    batch_bytes : size of a batch of images
    workers : workers that process the images in place of this process, or None
    windows : keeps the windows of the images (`lrcore.refinement.window_cache.WindowCache`); None to cut them each time
    """

    name: str
    xp: ModuleType
    fft: ModuleType
    kernels: Kernels
    threads: int
    batch_bytes: int = 16 << 20  # a batch and its intermediate arrays fit into the caches of a CPU
    workers: WorkerPool | None = None
    windows: Any = None

    def to_device(self, array: Any) -> Any:
        """Return an array where the kernels can use it: the array itself, or a copy on the GPU.

        Parameters
        ----------
        array : NumPy array, or array of this backend

        Returns
        -------
        Array of `xp`.

        Raises
        ------
        MemoryError
            When the GPU has too little memory.
        """
        return self.xp.asarray(array)

    def free_cached_memory(self) -> None:
        """Free the memory that the GPU's memory pool keeps for later use."""
        pool = getattr(self.xp, "get_default_memory_pool", None)
        if pool is not None:
            pool().free_all_blocks()

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """Return an array of zeros where the kernels can use it.

        Parameters
        ----------
        shape : shape of the array
        dtype : type of its elements

        Returns
        -------
        Array of `xp`.

        Raises
        ------
        InputError
            When there is too little memory.
        """
        return self._allocate(self.xp.zeros, shape, dtype)

    def volume_to_device(self, volume: FourierVolume) -> FourierVolume:
        """Return a Fourier volume whose data is where the kernels can use it, for many calls.

        Parameters
        ----------
        volume : Fourier volume, on the host or on the device

        Returns
        -------
        The same volume with data of `xp`.

        Raises
        ------
        InputError
            When there is too little memory.
        """
        return replace(volume, data=self._allocate(self.to_device, volume.data))

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """Return an array as NumPy: the array itself, or a copy from the GPU.

        Parameters
        ----------
        array : array of this backend, or NumPy array

        Returns
        -------
        NumPy array.
        """
        return array.get() if hasattr(array, "get") else np.asarray(array)

    def _allocate(self, make: Callable[..., Any], *arguments: Any) -> Any:
        """Call an allocating function; too little memory becomes an InputError."""
        try:
            return make(*arguments)
        except MemoryError as error:
            raise InputError(f"backend {self.name}: too little memory for this box: {error}") from None


def get_backend(name: str = "auto", threads: int | None = None) -> Backend:
    """Return the backend of a name.

    Parameters
    ----------
    name : "cpu" (Numba), "cuda" (NVIDIA GPU), "auto" (the GPU if there is one, else the CPU), "reference" (plain NumPy)
    threads : threads of FFTs and compiled loops on the host; by default all cores that this process may use

    Returns
    -------
    The backend. "auto" warns when there is a GPU that cannot be used.

    Raises
    ------
    InputError
        For an unknown name, and for "cuda" when CuPy, the GPU or its driver is missing.
    """
    threads = threads or len(os.sched_getaffinity(0))
    if name == "cuda" or (name == "auto" and _has_driver()):
        try:
            return _cuda(threads)
        except InputError as error:
            if name == "cuda":
                raise
            warnings.warn(f"working on the CPU: {error}", RuntimeWarning, stacklevel=2)
    if name in ("auto", "cpu"):
        return Backend("cpu", np, scipy.fft, _cpu_kernels(threads), threads)
    if name == "reference":
        return Backend("reference", np, scipy.fft, kernels_of("reference"), threads)
    raise InputError(f"backend {name!r} is unknown; use auto, cpu or cuda")


def _has_driver() -> bool:
    """Return whether an NVIDIA driver is installed, without the second that importing CuPy takes."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _cuda(threads: int) -> Backend:
    """Return the GPU backend; raises InputError when CuPy, its CUDA libraries, the driver or the GPU is missing."""
    try:
        import cupy
        import cupyx.scipy.fft
    except ImportError:
        raise InputError("backend cuda: CuPy is not installed: pip install 'lrwidgets[gpu]'") from None
    if not cupy.cuda.is_available():
        raise InputError("backend cuda: no NVIDIA GPU with a driver was found (see nvidia-smi); use --backend cpu")
    try:
        from cupy.cuda import cufft, nvrtc

        cufft.getVersion(), nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"backend cuda: no CUDA libraries: pip install 'lrwidgets[gpu]' ({reason})") from None
    # Enough images for every multiprocessor; while a batch is processed it takes about 20 times the size of its images.
    batch_bytes = min(256 << 20, cupy.cuda.runtime.memGetInfo()[1] >> 6)
    return Backend("cuda", cupy, cupyx.scipy.fft, kernels_of("cuda"), threads, batch_bytes)


def _cpu_kernels(threads: int) -> Kernels:
    """Set the cache folder and the number of threads of Numba, then return its kernels."""
    import numba

    numba.config.CACHE_DIR = str(_cache_folder())
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return kernels_of("cpu")


def compilation_notice(name: str = "auto") -> str | None:
    """Return, in one line, that a refinement will first compile its kernels, and for how long; None if they are ready.

    Each kernel is compiled at its first call, so that a command compiles only what it uses, and kept on disk.

    Parameters
    ----------
    name : of the backend, see `get_backend`
    """
    is_compiled = name == "cpu" or (name == "auto" and not _has_driver())
    if not is_compiled or any(_cache_folder().rglob(f"*{LAST_COMPILED}*.nbi")):
        return None
    return f"compiling the kernels, once per machine: about {COMPILATION_S:.0f} s in all"


def kernels_of(implementation: str) -> Kernels:
    """Return the kernels of an implementation: "reference", "cpu" or "cuda"."""
    folders = {
        "project_slices": "project",
        "backproject_images": "backproject",
        "search_lattice": "lattice_search",
        "evaluate_with_derivatives": "local_search",
        "evaluate_likelihood": "local_search",
        "find_posterior_modes": "local_search",
        "compute_ctf": "ctf",
        "whiten_images": "whiten",
        "whiten_windows": "whiten",
        "whiten_sidebands": "ewald",
        "subtract_model": "model_images",
        "correlate_with_model": "model_images",
        "pack_windows": "window_values",
        "unpack_windows": "window_values",
        "search_samples": "window_values",
    }
    return Kernels(
        **{name: _lazy_kernel(f"lrcore.kernels.{folder}.{implementation}", name) for name, folder in folders.items()}
    )


def _lazy_kernel(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports its kernel when it is called, so that unused kernels cost no time."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _cache_folder() -> Path:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, or one that depends on the text of all their sources.

    Numba checks only the file of a function, not the files it inlines from: a changed helper would leave stale code.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for path in [root / "imaging" / "fourier_volume.py", *sorted((root / "kernels").rglob("*.py"))]:
        if path.name not in ("cuda.py", "gpu.py"):
            digest.update(path.read_bytes())
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrwidgets" / digest.hexdigest()
