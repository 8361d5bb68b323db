"""The number formats in which a file may hold its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FLOATS", "UNIFORM_BITS", "DtypeName", "FloatFormat", "float_values"]

DtypeName = Literal[
    "float32", "float16", "bfloat16", "float8_e4m3", "float8_e5m2", "int8", "int7", "int6", "int5", "int4", "binary"
]

UNIFORM_BITS = {"int8": 8, "int7": 7, "int6": 6, "int5": 5, "int4": 4, "binary": 1}
"""Bits a value of the formats whose levels are equally spaced within a dimension."""


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """A floating-point format: bits in all and of its mantissa, exponent bias, code of the largest finite number."""

    bits: int
    mantissa: int
    bias: int
    largest: int

    @property
    def lowest(self) -> int:
        """The float32 exponent field of the smallest normal number."""
        return 127 - self.bias + 1


FLOATS = {
    "float32": FloatFormat(32, 23, 127, 0x7F7FFFFF),
    "float16": FloatFormat(16, 10, 15, 0x7BFF),
    "bfloat16": FloatFormat(16, 7, 127, 0x7F7F),
    # Micikevicius et al., "FP8 Formats for Deep Learning" (2022): e4m3 has no infinity, its largest is 448
    "float8_e4m3": FloatFormat(8, 3, 7, 0x7E),
    "float8_e5m2": FloatFormat(8, 2, 15, 0x7B),
}


@cache
def float_values(name: str, exponent: int) -> NDArray[np.float32]:
    """The float32 value of every code of a format of 8 or 16 bits, divided by ``2**exponent``; read-only.

    Codes that are not finite, which no encoder writes, get the value zero.
    """
    import numpy as np  # not at the top: listing settings needs the formats' names alone

    kind = FLOATS[name]
    codes = np.arange(1 << kind.bits)
    magnitude = codes & ((1 << (kind.bits - 1)) - 1)
    field, fraction = magnitude >> kind.mantissa, magnitude & ((1 << kind.mantissa) - 1)
    significand = fraction + np.where(field > 0, 1 << kind.mantissa, 0)
    values = np.ldexp(significand.astype(np.float64), np.maximum(field, 1) - kind.bias - kind.mantissa - exponent)
    values = np.where(magnitude <= kind.largest, values, 0.0)
    # the sign of zero survives
    result = np.where(codes >> (kind.bits - 1) == 1, -values, values).astype(np.float32)
    result.flags.writeable = False
    return result
