"""How the native kernels are compiled: on first use, kept on disk, running without the lock."""

from __future__ import annotations

import logging
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.event import Event, Listener, register
from numba.extending import intrinsic

__all__ = [
    "CompilationNotice",
    "bit_length",
    "compiled",
    "compiled_in_place",
    "high_product",
    "inlined",
    "merged",
]

_PACKAGE = __name__.partition(".")[0]


class CompilationNotice(Listener):  # type: ignore[misc]
    """Logs once per process that our kernels are being compiled: it takes up to a minute, the first time."""

    def __init__(self) -> None:
        self._made = False

    def on_start(self, event: Event) -> None:
        kernel = event.data["dispatcher"].py_func
        if not self._made and kernel.__module__.partition(".")[0] == _PACKAGE:
            self._made = True
            logging.getLogger(_PACKAGE).info("compiling for this processor; later runs find the result in a cache")

    def on_end(self, event: Event) -> None:
        """Nothing to say."""


register("numba:compile", CompilationNotice())

inlined = njit(error_model="numpy")
"""For helpers of kernels; LLVM inlines them where that looks worth while."""

merged = njit(error_model="numpy", forceinline=True, _nrt=False)
"""For the named parts of one long kernel, see :func:`compiled_in_place`: always made one with their caller.

Such parts create no arrays, so no references are counted: counting those of tuples of arrays would cost more than the
parts do.
"""


def compiled(function: Any) -> Any:
    """Compile at the first call with each combination of types, for good where a cache can be kept.

    Compiled functions release the interpreter lock. In an installation where neither the package
    folder nor the user's cache folder can be written, each process compiles anew (seconds);
    ``NUMBA_CACHE_DIR`` names a folder to use instead.
    """
    return _compiled(function)


def compiled_in_place(function: Any) -> Any:
    """Like :func:`compiled`, for kernels that create no arrays: what they write to is handed to them."""
    return _compiled(function, _nrt=False)


def _compiled(function: Any, **options: bool) -> Any:
    try:
        return njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(nogil=True, error_model="numpy", **options)(function)


@intrinsic  # type: ignore[untyped-decorator]
def bit_length(typing_context: Any, value: Any) -> Any:
    """Bits of an int64 that is not negative: 0 for 0, 1 for 1, 63 for the largest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        leading = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(ir.IntType(64), 64), leading)

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def high_product(typing_context: Any, left: Any, right: Any) -> Any:
    """The upper 64 bits of the 128-bit product of two uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate
