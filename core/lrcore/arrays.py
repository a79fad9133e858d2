"""Define the array types that annotations use."""

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
