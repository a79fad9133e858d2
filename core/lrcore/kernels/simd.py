"""Process eight float32 at once inside Numba: neighbours along x, which an interpolation reads, are adjacent in memory.

The compiler would vectorise over samples and fetch each neighbour by itself (a gather); reading a row of a volume at
once is several times faster. A vector is a value of its own Numba type; a scalar argument stands for eight equal ones.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LANES = 8
FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
FAST = ("fast",)


class Vector(types.Type):
    """Numba's type of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x8")


vector = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _broadcast(builder: Any, value: Any) -> Any:
    """Return a scalar as LLVM vector of equal elements, or the vector itself."""
    if value.type == VECTOR:
        return value
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), zeros)


@intrinsic
def load(context, array, at):  # type: ignore[no-untyped-def]
    """Return array[at : at + 8] of a flat float32 array."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = ctx.make_array(signature.args[0])(ctx, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), VECTOR.as_pointer())
        return builder.load(pointer, align=4)

    return vector(array, at), generate


@intrinsic
def prefetch_line(context, array, at):  # type: ignore[no-untyped-def]
    """Prefetch array[at] of a flat float32 array into the cache; any `at` is allowed, also outside the array."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = ctx.make_array(signature.args[0])(ctx, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [pointer, *(ir.Constant(number, flag) for flag in (0, 3, 1))])
        return ctx.get_dummy_value()

    return types.void(array, at), generate


@intrinsic
def store(context, array, at, a):  # type: ignore[no-untyped-def]
    """Set array[at : at + 8] = a in a flat float32 array."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = ctx.make_array(signature.args[0])(ctx, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), VECTOR.as_pointer())
        builder.store(_broadcast(builder, arguments[2]), pointer, align=4)
        return ctx.get_dummy_value()

    return types.void(array, at, a), generate


@intrinsic
def constant(context, values):  # type: ignore[no-untyped-def]
    """Return the vector of a tuple of eight floats."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        out = ir.Constant(VECTOR, ir.Undefined)
        for i, value in enumerate(cgutils.unpack_tuple(builder, arguments[0])):
            part = ctx.cast(builder, value, signature.args[0][i], types.float32)
            out = builder.insert_element(out, part, ir.Constant(ir.IntType(32), i))
        return out

    return vector(values), generate


@intrinsic
def multiply(context, a, b):  # type: ignore[no-untyped-def]
    """Return a · b; either may be a float32."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fmul(*(_broadcast(builder, x) for x in arguments), flags=FAST)

    return vector(a, b), generate


@intrinsic
def fma(context, a, b, c):  # type: ignore[no-untyped-def]
    """Return a · b + c; each may be a float32."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        x, y, z = (_broadcast(builder, value) for value in arguments)
        return builder.fadd(builder.fmul(x, y, flags=FAST), z, flags=FAST)

    return vector(a, b, c), generate


@intrinsic
def pair_sums(context, a):  # type: ignore[no-untyped-def]
    """Return the sums of the even and of the odd lanes: (re, im) of the sum of four complex numbers."""

    def generate(ctx, builder, signature, arguments):  # type: ignore[no-untyped-def]
        def part(value: Any, lanes: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
            return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

        half = builder.fadd(part(arguments[0], [0, 1, 2, 3]), part(arguments[0], [4, 5, 6, 7]), flags=FAST)
        pair = builder.fadd(part(half, [0, 1]), part(half, [2, 3]), flags=FAST)
        sums = [builder.extract_element(pair, ir.Constant(ir.IntType(32), i)) for i in range(2)]
        return ctx.make_tuple(builder, signature.return_type, sums)

    return types.containers.UniTuple(types.float32, 2)(a), generate
