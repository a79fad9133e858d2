"""Backends: where the hot loops run. Kernels are looked up here, so that importing lrcore compiles nothing."""

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


@dataclass(frozen=True)
class Kernels:
    """The contracts; each is documented in `lrcore.kernels.<folder>`."""

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


class MapReduceInterface(Protocol):
    """Work of a crew on groups of parts, each of which becomes one result; it ends with its with block."""

    def __enter__(self) -> "MapReduceInterface": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add_group(self, shared: Any, parts: Sequence[Any], weights: Sequence[int]) -> None:
        """Have a group worked on. shared: what all its parts need. weights: of the parts, for `done`."""

    @property
    def done(self) -> int:
        """Sum of the weights of all parts that are done."""

    def wait(self, number: int) -> Iterator[None]:
        """Until that group is done; comes back often."""

    def result(self, number: int) -> Any:
        """What that group has come to; once."""


class WorkerPool(Protocol):
    """Who shares the work on images with this process; see `lrcore.compute.workers`."""

    def map_reduce(self, work: Callable[..., Any], merge: Callable[[Any, Any], Any]) -> MapReduceInterface:
        """Work of this kind. work(shared, part, backend): a generator that returns a result. merge: of two results."""


@dataclass(frozen=True)
class Backend:
    """name: "cpu", "cuda" or "reference". xp, fft: its array module, and its FFTs with the names of scipy.fft.

    threads: workers of FFTs and compiled loops on the host. batch_bytes: of the images that it takes at a time. crew:
    who goes over the images in place of this process, or None.
    """

    name: str
    xp: ModuleType
    fft: ModuleType
    kernels: Kernels
    threads: int
    batch_bytes: int = 16 << 20  # with what comes with it, in the caches of a processor
    workers: WorkerPool | None = None

    def to_device(self, array: Any) -> Any:
        """The array where the kernels work: itself, or a copy on the GPU. Raises MemoryError when that has no room."""
        return self.xp.asarray(array)

    def free_cached_memory(self) -> None:
        """Give back what the GPU's memory pool keeps for later."""
        pool = getattr(self.xp, "get_default_memory_pool", None)
        if pool is not None:
            pool().free_all_blocks()

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """Zeros where the kernels work. Raises InputError when there is no room."""
        return self._with_room(self.xp.zeros, shape, dtype)

    def place(self, volume: FourierVolume) -> FourierVolume:
        """The volume where the kernels work, for many calls. Raises InputError when there is no room."""
        return replace(volume, data=self._with_room(self.to_device, volume.data))

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """The array as NumPy: itself, or a copy from the GPU."""
        return array.get() if hasattr(array, "get") else np.asarray(array)

    def _with_room(self, make: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return make(*arguments)
        except MemoryError as error:
            raise InputError(f"backend {self.name}: too little memory for this box: {error}") from None


def get_backend(name: str = "auto", threads: int | None = None) -> Backend:
    """The backend called `name`: cpu (Numba), cuda (an NVIDIA GPU), auto (the GPU if there is one), reference (NumPy).

    Raises InputError for an unknown name, and for "cuda" where CuPy, the GPU or its driver is missing.
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
    """Whether the library of an NVIDIA driver is there: known without the second that it takes to import CuPy."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _cuda(threads: int) -> Backend:
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
    # Enough images for every multiprocessor; a batch takes some 20 times its images while it is worked on.
    batch_bytes = min(256 << 20, cupy.cuda.runtime.memGetInfo()[1] >> 6)
    return Backend("cuda", cupy, cupyx.scipy.fft, kernels_of("cuda"), threads, batch_bytes)


def _cpu_kernels(threads: int) -> Kernels:
    import numba

    numba.config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR") or str(_cache_folder())
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return kernels_of("cpu")


def kernels_of(twin: str) -> Kernels:
    """The kernels of a twin: "reference", "cpu" or "cuda"."""
    homes = {
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
    }
    return Kernels(**{name: _lazy_kernel(f"lrcore.kernels.{home}.{twin}", name) for name, home in homes.items()})


def _lazy_kernel(module: str, name: str) -> Callable[..., Any]:
    """A function that is imported at its first call: a command pays for the kernels that it uses."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _cache_folder() -> Path:
    """Where compiled kernels are kept: a folder for each state of their sources.

    Numba looks at the file of a function, not at those it inlines from; a changed helper would leave stale code.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for path in [root / "imaging" / "fourier_volume.py", *sorted((root / "kernels").rglob("*.py"))]:
        if path.name not in ("cuda.py", "gpu.py"):
            digest.update(path.read_bytes())
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrwidgets" / digest.hexdigest()
