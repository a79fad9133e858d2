"""Implement `backproject_images` in Numba, in two passes.

First, each thread takes an image and sorts its samples by the slab (a range of planes along z) that they fall into.
Then each thread takes a slab and adds the samples of all images for it, in the order of the images. Even slabs are
processed before odd ones, because a trilinear write reaches one plane into the next slab. The sums therefore do not
depend on the number of threads, and no thread needs memory that grows with the volume. The more images in a call, the
less often the volume moves through the caches.
"""

from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from lrcore.imaging.fourier_volume import PADDING
from lrcore.kernels.backproject.reference import half_plane_samples, max_curvature
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import (
    CHUNK,
    I32,
    PREFETCH_DISTANCE,
    C,
    F,
    allocate_scratch,
    as_real_pairs,
    locate_samples,
)
from lrcore.kernels.simd import prefetch_line

SLAB_PLANES = 6
"""Planes in a slab; at least 3, so that no two slabs of one parity write to the same plane even if rounding differs."""


@intrinsic
def add_scaled(context, array, at, values, weight):  # type: ignore[no-untyped-def]
    """Add weight · values to array[at:] of a flat float32 array; values: a tuple of float32, added as one vector."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        parts = cgutils.unpack_tuple(builder, arguments[2])
        kind = ir.VectorType(ir.FloatType(), len(parts))
        change: Any = ir.Constant(kind, ir.Undefined)
        factor: Any = change
        for i, part in enumerate(parts):
            change = builder.insert_element(change, part, ir.Constant(ir.IntType(32), i))
            factor = builder.insert_element(factor, arguments[3], ir.Constant(ir.IntType(32), i))
        data = ctx.make_array(signature.args[0])(ctx, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), kind.as_pointer())
        change = builder.fmul(change, factor, flags=("fast",))
        builder.store(builder.fadd(builder.load(pointer, align=4), change, flags=("fast",)), pointer, align=4)
        return ctx.get_dummy_value()

    return types.void(array, at, values, weight), generate


@numba.njit(**NUMBA_OPTIONS)
def _slabs(turn, bend, planes, kx, ky, slab):  # type: ignore[no-untyped-def]
    """Compute the slab of each sample from the plane of its lower neighbours, rounded as in `locate_samples`."""
    centre = F(planes // 2)
    t00, t02, t10, t12, t20, t22 = turn[0, 0], turn[0, 2], turn[1, 0], turn[1, 2], turn[2, 0], turn[2, 2]
    for s in range(len(slab)):
        u, v = F(kx[s]), F(ky[s])
        qx, qz = t00 * u + t10 * v, t02 * u + t12 * v
        if bend is not None:
            w = bend * (u * u + v * v)
            qx, qz = qx + t20 * w, qz + t22 * w
        sign = F(-1) if qx < F(0) else F(1)
        slab[s] = np.int16(I32(qz * sign + centre) // I32(SLAB_PLANES))


@numba.njit(**NUMBA_OPTIONS)
def _sort(turn, bend, planes, kx, ky, starts, sorted_kx, sorted_ky):  # type: ignore[no-untyped-def]
    """Sort the samples of an image by slab; starts: (slabs + 1), where the samples of each slab begin."""
    slab = np.empty(len(kx), np.int16)
    _slabs(turn, bend, planes, kx, ky, slab)
    starts[:] = 0
    for s in range(len(slab)):
        starts[slab[s] + 1] += 1
    for i in range(1, len(starts)):
        starts[i] += starts[i - 1]
    cursor = starts[:-1].copy()
    for s in range(len(slab)):
        at = cursor[slab[s]]
        cursor[slab[s]] = at + 1
        sorted_kx[at], sorted_ky[at] = kx[s], ky[s]


@numba.njit(**NUMBA_OPTIONS)
def _values(tables, data, weight, part, kx, ky, begin, end, where, value):  # type: ignore[no-untyped-def]
    """Compute what samples begin … end add: columns re, im (data · phase, conjugated where the mate is used), weight.

    part: the share of the pose.
    """
    along_x, along_y = tables
    n = len(weight)
    kx, ky = kx[begin:end], ky[begin:end]
    for j in range(end - begin):
        i, x = np.uint64(j), kx[j]
        row = ky[j] if ky[j] >= 0 else ky[j] + n
        share = part * (F(0.5) if x == 0 and row == 0 else F(1))
        c = share * (along_x[x, 0] * along_y[row, 0] - along_x[x, 1] * along_y[row, 1])
        s = share * (along_x[x, 1] * along_y[row, 0] + along_x[x, 0] * along_y[row, 1])
        value[i] = data[row, x, 0] * c + data[row, x, 1] * s
        value[C + i] = where[i] * (data[row, x, 1] * c - data[row, x, 0] * s)
        value[2 * C + i] = share * weight[row, x]


@numba.njit(**NUMBA_OPTIONS)
def _add(num, den, row, plane, count, corner, where, value):  # type: ignore[no-untyped-def]
    """Add `count` located samples to their 4 rows of 2 voxels; row, plane: distances of these in `num`, in floats."""
    for j in range(count):
        i = np.uint64(j)
        ahead = np.int64(corner[min(j + PREFETCH_DISTANCE, count - 1)])
        for step in (0, row, plane, plane + row):
            prefetch_line(num, ahead + step)
            prefetch_line(den, (ahead + step) // 2)
        at, f = np.int64(corner[i]), where[C + i]
        g, re, im, w = F(1) - f, value[i], value[C + i], value[2 * C + i]
        both, weights = (g * re, g * im, f * re, f * im), (g * w, f * w)
        add_scaled(num, at, both, where[2 * C + i])
        add_scaled(den, at // 2, weights, where[2 * C + i])
        at += row
        add_scaled(num, at, both, where[3 * C + i])
        add_scaled(den, at // 2, weights, where[3 * C + i])
        at += plane - row
        add_scaled(num, at, both, where[4 * C + i])
        add_scaled(den, at // 2, weights, where[4 * C + i])
        at += row
        add_scaled(num, at, both, where[5 * C + i])
        add_scaled(den, at // 2, weights, where[5 * C + i])


@numba.njit(**NUMBA_OPTIONS)
def _curvature_of(bends, b):  # type: ignore[no-untyped-def]
    """Return the curvature of a pose; None for flat slices, for which separate code is compiled."""
    return None if bends is None else bends[b]


@numba.njit(**NUMBA_OPTIONS)
def _slab(slab, num, den, shape, turns, bends, along_x, along_y, image, share, data, weight, starts, kx, ky):  # type: ignore[no-untyped-def]
    """Add the samples of all poses that fall into a slab."""
    corner, where, _ = allocate_scratch()
    value = np.empty(3 * CHUNK, F)
    row, plane = 2 * shape[2], 2 * shape[1] * shape[2]
    for b in range(len(turns)):
        last, i = starts[b, slab + 1], image[b]
        for begin in range(starts[b, slab], last, CHUNK):
            end = min(begin + CHUNK, last)
            locate_samples(shape, turns[b], kx[b], ky[b], begin, end, corner, where, _curvature_of(bends, b))
            _values((along_x[b], along_y[b]), data[i], weight[i], share[b], kx[b], ky[b], begin, end, where, value)
            _add(num, den, row, plane, end - begin, corner, where, value)


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _backproject_images(  # type: ignore[no-untyped-def]
    num, den, shape, turns, bends, along_x, along_y, image, share, data, weight, kx, ky, starts, sorted_kx, sorted_ky
):
    for b in numba.prange(len(turns)):
        _sort(turns[b], _curvature_of(bends, b), shape[0], kx, ky, starts[b], sorted_kx[b], sorted_ky[b])
    slabs = starts.shape[1] - 1
    for parity in range(2):
        for i in numba.prange((slabs - parity + 1) // 2):
            _slab(
                2 * i + parity,
                num,
                den,
                shape,
                turns,
                bends,
                along_x,
                along_y,
                image,
                share,
                data,
                weight,
                starts,
                sorted_kx,
                sorted_ky,
            )


def backproject_images(
    numerator: npt.NDArray[np.complex64],
    denominator: npt.NDArray[np.float32],
    rotations: npt.NDArray[np.floating],
    shifts: npt.NDArray[np.floating],
    data: npt.NDArray[np.complex64],
    weight: npt.NDArray[np.float32],
    limit: int,
    image: npt.NDArray[np.integer] | None = None,
    share: npt.NDArray[np.floating] | None = None,
    curvature: npt.NDArray[np.floating] | None = None,
) -> None:
    """Add images to a Fourier volume; see `lrcore.kernels.backproject`."""
    n, shape = data.shape[1], denominator.shape
    turns = (PADDING * rotations).astype(np.float32)
    along_x = _turns(2 * np.pi / n * shifts[:, :1] * np.arange(n // 2 + 1))
    row = np.arange(n)
    along_y = _turns(2 * np.pi / n * shifts[:, 1:] * np.where(row > n // 2, row - n, row))
    kx, ky = disc_samples(limit, max_curvature(curvature))
    sorted_kx, sorted_ky = np.empty((2, len(turns), len(kx)), np.int16)
    starts = np.empty((len(turns), (shape[0] + SLAB_PLANES - 1) // SLAB_PLANES + 1), np.int64)
    rows = np.arange(len(turns)) if image is None else np.asarray(image, np.int64)
    part = np.ones(len(turns), np.float32) if share is None else np.asarray(share, np.float32)
    bends = None if curvature is None else np.asarray(curvature, np.float32)
    _backproject_images(
        numerator.view(np.float32).reshape(-1),
        denominator.reshape(-1),
        shape,
        turns,
        bends,
        along_x,
        along_y,
        rows,
        part,
        as_real_pairs(np.ascontiguousarray(data)),
        np.ascontiguousarray(weight),
        kx,
        ky,
        starts,
        sorted_kx,
        sorted_ky,
    )


def _turns(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return cosine and sine of angles along a new last axis: (..., 2)."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


@lru_cache(maxsize=4)
def disc_samples(limit: int, steepness: float) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Return kx and ky of the samples of a call: each conjugate pair once, and the origin."""
    samples, _ = half_plane_samples(2 * limit, limit, steepness)
    return samples.kx.astype(np.int16), samples.ky.astype(np.int16)
