"""Contract of the roofline loops: the memory traffic and arithmetic that kernels cannot avoid, to compare them with.

A Fourier volume is data (Z, Z, X) complex64. `at` (B, S) int32 is the flat index of the lowest corner of the voxels
that sample s of image b touches; the array must contain four voxels along x from there. Each image is the work of one
thread.

    copy(source: (n,), target: (n,)) -> None
        Copy float32 values: target = source.
    gather(data, at, width: int) -> (B,) complex64
        Sum, over the samples, the width³ voxels from the corner on: 2³ is a trilinear read, 3³ a quadratic one.
    scatter(data, weight: (Z, Z, X) float32, at) -> None
        Add 1 to the 2³ voxels of both arrays, image after image, in place, in one thread.
    multiply_add(values: (B, n) float32, a: float, b: float, rounds: int) -> None
        Replace x by a x + b, CHAIN · rounds times for every value, in place: 2 · CHAIN · rounds · values.size
        operations.
"""

CHAIN = 16
"""Multiply-adds between a read and a write of a value."""
