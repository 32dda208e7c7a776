"""Addresses in compiled code: as pointers, and as functions that are called; and a counter that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic  # which hands the first argument itself


def _pointer(kind: types.Type):
    """An intrinsic that takes an address as a pointer to ``kind``."""

    @intrinsic
    def pointer(context, address):
        def generate(context, builder, signature, values):
            return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


doubles, words, ints = _pointer(types.float64), _pointer(types.int64), _pointer(types.int32)


def _call(builder: ir.IRBuilder, values: list) -> None:
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * (len(values) - 1)).as_pointer()
    builder.call(builder.inttoptr(values[0], kind), values[1:])


@intrinsic
def call2(context, function, a, b):
    """Call the function at an address with two words."""

    def generate(context, builder, signature, values):
        _call(builder, values)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def call4(context, function, a, b, c, d):
    """Call the function at an address with four words."""

    def generate(context, builder, signature, values):
        _call(builder, values)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def take(context, counter):
    """Add one to ``counter[0]``, int64, and return what it was, in one step for all threads."""

    def generate(context, builder, signature, values):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, values[0])
        return builder.atomic_rmw("add", array.data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.Array(types.int64, 1, "C")), generate
