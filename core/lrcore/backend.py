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
from lrcore.fourier import FourierVolume


@dataclass(frozen=True)
class Kernels:
    """The contracts; each is documented in `lrcore.kernels.<folder>`."""

    slices: Callable[..., Any]
    insert: Callable[..., Any]
    score: Callable[..., Any]
    evaluate: Callable[..., Any]
    values: Callable[..., Any]
    newton: Callable[..., Any]
    ctf: Callable[..., Any]
    weigh: Callable[..., Any]
    sidebands: Callable[..., Any]
    window: Callable[..., Any]
    subtract: Callable[..., Any]
    compare: Callable[..., Any]


class Errand(Protocol):
    """Work of a crew on groups of parts, each of which becomes one result; it ends with its with block."""

    def __enter__(self) -> "Errand": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def put(self, shared: Any, parts: Sequence[Any], weights: Sequence[int]) -> None:
        """Have a group worked on. shared: what all its parts need. weights: of the parts, for `done`."""

    @property
    def done(self) -> int:
        """Sum of the weights of all parts that are done."""

    def watch(self, number: int) -> Iterator[None]:
        """Until that group is done; comes back often."""

    def result(self, number: int) -> Any:
        """What that group has come to; once."""


class Crew(Protocol):
    """Who shares the work on images with this process; see `lrcore.execute`."""

    def errand(self, work: Callable[..., Any], merge: Callable[[Any, Any], Any]) -> Errand:
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
    crew: Crew | None = None

    def to_device(self, array: Any) -> Any:
        """The array where the kernels work: itself, or a copy on the GPU. Raises MemoryError when that has no room."""
        return self.xp.asarray(array)

    def tidied(self) -> None:
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


def pick(name: str = "auto", threads: int | None = None) -> Backend:
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
        "slices": "slice", "insert": "insert", "score": "score", "evaluate": "newton", "values": "newton",
        "newton": "newton", "ctf": "ctf", "weigh": "weigh", "window": "weigh", "sidebands": "sidebands",
        "subtract": "model", "compare": "model",
    }  # fmt: skip
    return Kernels(**{name: _when_called(f"lrcore.kernels.{home}.{twin}", name) for name, home in homes.items()})


def _when_called(module: str, name: str) -> Callable[..., Any]:
    """A function that is imported at its first call: a command pays for the kernels that it uses."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _cache_folder() -> Path:
    """Where compiled kernels are kept: a folder for each state of their sources.

    Numba looks at the file of a function, not at those it inlines from; a changed helper would leave stale code.
    """
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in [root / "fourier.py", *sorted((root / "kernels").rglob("*.py"))]:
        if path.name not in ("cuda.py", "device.py"):
            digest.update(path.read_bytes())
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrwidgets" / digest.hexdigest()
