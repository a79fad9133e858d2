"""Compute sine and cosine inside Numba, in loops that the compiler can vectorise."""

import numba
import numpy as np

from lrcore.kernels.numba_options import NUMBA_OPTIONS

F = np.float32
# Least-squares fits at Chebyshev nodes, in x², of sin(π x) / x and cos(π x) on |x| ≤ ½; errors below 1e-8.
S0, S1, S2, S3, S4 = F(3.1415926401), F(-5.1677100830), F(2.5500775105), F(-0.5982911901), F(0.0776574420)
C0, C1, C2, C3, C4, C5 = F(1), F(-4.9348021371), F(4.0587091591), F(-1.3352119968), F(0.2349372817), F(-0.0243962674)


@numba.njit(inline="always", **NUMBA_OPTIONS)
def cos_sin(turns):  # type: ignore[no-untyped-def]
    """Return (cos, sin) of 2π · turns for a float32. Error: 2e-7, and that of the rounding of `turns` itself."""
    x = turns - np.rint(turns)
    q = x * x
    s = x * (S0 + q * (S1 + q * (S2 + q * (S3 + q * S4))))
    c = C0 + q * (C1 + q * (C2 + q * (C3 + q * (C4 + q * C5))))
    return F(1) - F(2) * s * s, F(2) * s * c
