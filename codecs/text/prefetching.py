"""Asking the processor to load a table line before it is needed: a hint, never a result."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["prefetch"]


@intrinsic
def prefetch(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Start loading ``array[index]`` into the cache; the array is one-dimensional and contiguous."""
    signature = types.void(array, index)

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        from llvmlite import ir

        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = cgutils.gep_inbounds(builder, view.data, arguments[1])
        byte_pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer.type, word, word, word])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # Read access, highest locality, data cache.
        builder.call(hint, [byte_pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return signature, codegen
