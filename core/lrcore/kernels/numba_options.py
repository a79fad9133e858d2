"""Define the compiler options of the Numba kernels, once."""

NUMBA_OPTIONS = {"cache": True, "fastmath": True, "nogil": True, "error_model": "numpy"}
EXACT_OPTIONS = {**NUMBA_OPTIONS, "fastmath": {"nnan", "ninf", "nsz", "contract"}}
"""For sums whose order of operations must not change with the compiler."""
