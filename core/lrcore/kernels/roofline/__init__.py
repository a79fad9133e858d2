"""Contract of the ceilings: loops that do nothing but what the kernels cannot do without, to time and to compare with.

A Fourier volume is data (Z, Z, X) complex64; `at` (B, S) int32 is the flat index of the lowest corner of what sample s
of image b touches; four voxels from there on, along x, must be in the array. Each image is the work of one thread.

    copy(source: (n,), target: (n,)) -> None
        target = source, float32.
    gather(data, at, width: int) -> (B,) complex64
        the sum, over samples, of the width³ voxels from the corner on: 2³ is a trilinear read, 3³ a quadratic one.
    scatter(data, weight: (Z, Z, X) float32, at) -> None
        adds 1 to the 2³ voxels of both arrays, image after image, in place, in one thread.
    multiply_add(values: (B, n) float32, a: float, b: float, rounds: int) -> None
        x → a x + b, CHAIN · rounds times for every value, in place: 2 · CHAIN · rounds · values.size operations.
"""

CHAIN = 16
"""Multiply-adds between a read and a write of a value."""
