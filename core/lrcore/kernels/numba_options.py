"""Define the compiler options of the Numba kernels."""

NUMBA_OPTIONS = {"cache": True, "fastmath": True, "nogil": True, "error_model": "numpy"}
EXACT_OPTIONS = {**NUMBA_OPTIONS, "fastmath": {"nnan", "ninf", "nsz", "contract"}}
"""Options of functions in which the compiler must not change the order of operations."""
