"""Hot loops of the refinement: each folder holds a contract, its NumPy definition, and its CPU and GPU versions.

The docstring of a folder is the contract: signatures, shapes, units and equations. `reference.py` defines the results
in plain NumPy; `cpu.py` (Numba) and `cuda.py` with `cuda.cu` are optimisations of it, and are tested against it.
"""
