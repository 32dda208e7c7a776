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


def _call(builder: ir.IRBuilder, values: list, result: ir.Type) -> Any:
    kind = ir.FunctionType(result, [ir.IntType(64)] * (len(values) - 1)).as_pointer()
    return builder.call(builder.inttoptr(values[0], kind), values[1:])


@intrinsic
def call2(context, function, a, b):
    """Call the function at an address with two words."""

    def generate(context, builder, signature, values):
        _call(builder, values, ir.VoidType())
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def call3(context, function, a, b, c):
    """What the function at an address returns, a word, for three words."""

    def generate(context, builder, signature, values):
        return _call(builder, values, ir.IntType(64))

    return types.int64(*[types.int64] * 4), generate


@intrinsic
def call4(context, function, a, b, c, d):
    """Call the function at an address with four words."""

    def generate(context, builder, signature, values):
        _call(builder, values, ir.VoidType())
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _shared(context: Any, builder: ir.IRBuilder, signature: Any, value: Any) -> Any:
    """The address of an array's first number."""
    return cgutils.create_struct_proxy(signature.args[0])(context, builder, value).data


@intrinsic
def take(context, counter):
    """Add one to ``counter[0]``, int64, and return what it was, in one step for all threads."""

    def generate(context, builder, signature, values):
        place = _shared(context, builder, signature, values[0])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(types.Array(types.int64, 1, "C")), generate


@intrinsic
def put(context, counter, value):
    """Set ``counter[0]``, int64, for all threads, and return what it was; they see what was written before."""

    def generate(context, builder, signature, values):
        place = _shared(context, builder, signature, values[0])
        return builder.atomic_rmw("xchg", place, values[1], "seq_cst")

    return types.int64(types.Array(types.int64, 1, "C"), types.int64), generate
