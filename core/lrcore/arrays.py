"""Define the array types that annotations use, and keep values that are computed once for an array."""

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Complex64 = npt.NDArray[np.complex64]
IntArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.floating]
ComplexArray = npt.NDArray[np.complexfloating]
StructuredArray = npt.NDArray[np.void]

Rows = Int64
"""Row indices into a particle table: (n,)."""

V = TypeVar("V")


class IdentityCache(Generic[V]):
    """Values that are computed once for an object, which is compared by identity, and forgotten with it.

    An array that is changed in place keeps the values that it had.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], V]] = {}

    def __contains__(self, owner: Any) -> bool:
        """Return whether the value of an object is known."""
        found = self._known.get(id(owner))
        return found is not None and found[0]() is owner

    def __len__(self) -> int:
        """Return the number of objects whose values are known."""
        return len(self._known)

    def get(self, owner: Any, compute: Callable[[], V]) -> V:
        """Return the value of an object, computed at the first call.

        Parameters
        ----------
        owner : object that can be referred to weakly, such as an array
        compute : returns the value
        """
        number, found = id(owner), self._known.get(id(owner))
        if found is None or found[0]() is not owner:
            gone = weakref.ref(owner, lambda _: self._known.pop(number, None))
            found = self._known[number] = (gone, compute())
        return found[1]
