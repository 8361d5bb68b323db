"""Non-linear functions as integer look-up tables, computed from whole numbers alone.

Every table is an int32 array; entry ``i`` belongs to the input ``(i - offset) / 2**fraction_bits``
and holds the function's value times ``2**output_bits``, rounded to nearest. Inputs beyond the
table take its first or last entry, as the functions level off there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter
from .fixed_point import FRACTION_BITS, ONE, exp_of_minus, gaussian_mass, integer_root, power, rounded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["LookupTable", "exp2_table", "gaussian_cdf_table", "sigmoid_table", "tanh_table"]


@dataclass(frozen=True, slots=True, eq=False)
class LookupTable:
    """A sampled function: see the module for what the entries mean."""

    entries: NDArray[np.int32]
    offset: int
    fraction_bits: int
    output_bits: int

    @property
    def digest(self) -> str:
        """SHA-256 of everything that defines the table, in hexadecimal."""
        head = f"{self.offset},{self.fraction_bits},{self.output_bits};".encode()
        return hashlib.sha256(head + self.entries.astype("<i4").tobytes()).hexdigest()

    def __call__(self, inputs: Any) -> Any:
        """Look up ``inputs``, an integer array or tensor of any shape; int32 of the same shape."""
        last = self.entries.size - 1
        if isinstance(inputs, np.ndarray):
            return self.entries[np.clip(inputs.astype(np.int64) + self.offset, 0, last)]
        import torch

        entries = torch.from_numpy(self.entries.copy()).to(inputs.device)
        return entries[(inputs.long() + self.offset).clamp(0, last)]


def sigmoid_table(*, fraction_bits: int = 8, range_bits: int = 3, output_bits: int = 15) -> LookupTable:
    """The logistic function, which is also the logistic CDF, for inputs from ``-2**range_bits`` up."""
    return _symmetric("sigmoid", fraction_bits, range_bits, output_bits)


def tanh_table(*, fraction_bits: int = 8, range_bits: int = 2, output_bits: int = 15) -> LookupTable:
    """The hyperbolic tangent for inputs of magnitude up to ``2**range_bits``."""
    return _symmetric("tanh", fraction_bits, range_bits, output_bits)


def gaussian_cdf_table(*, fraction_bits: int = 8, range_bits: int = 3, output_bits: int = 24) -> LookupTable:
    """The standard normal CDF for inputs of magnitude up to ``2**range_bits``."""
    return _symmetric("gaussian_cdf", fraction_bits, range_bits, output_bits)


@cache
def exp2_table(*, fraction_bits: int = 8, output_bits: int = 24) -> LookupTable:
    """``2**(i / 2**fraction_bits)`` over one octave: entry ``i`` from 0 to ``2**fraction_bits - 1``."""
    _check(fraction_bits, 0, output_bits)
    # The 2**fraction_bits-th root of two, by repeated square roots.
    root = 2 * ONE
    for _ in range(fraction_bits):
        root = integer_root(root << FRACTION_BITS, 2)
    values, value = [], ONE
    for _ in range(1 << fraction_bits):
        values.append(rounded(value, output_bits))
        value = value * root >> FRACTION_BITS
    return LookupTable(_frozen(values), 0, fraction_bits, output_bits)


@cache
def _symmetric(name: str, fraction_bits: int, range_bits: int, output_bits: int) -> LookupTable:
    _check(fraction_bits, range_bits, output_bits)
    half = 1 << (fraction_bits + range_bits)
    upper = [rounded(value, output_bits) for value in _UPPER_HALVES[name](half, fraction_bits)]
    # f(-x) = c - f(x), where c is twice the value at zero
    reflected = 0 if name == "tanh" else 1 << output_bits
    lower = [reflected - value for value in reversed(upper[1:])]
    return LookupTable(_frozen([*lower, *upper]), half, fraction_bits, output_bits)


def _sigmoid_upper(half: int, fraction_bits: int) -> list[int]:
    step = exp_of_minus(ONE >> fraction_bits)
    values, decay = [], ONE
    for _ in range(half + 1):
        values.append((ONE << FRACTION_BITS) // (ONE + decay))
        decay = decay * step >> FRACTION_BITS
    return values


def _tanh_upper(half: int, fraction_bits: int) -> list[int]:
    step = power(exp_of_minus(ONE >> fraction_bits), 2)
    values, decay = [], ONE
    for _ in range(half + 1):
        values.append(((ONE - decay) << FRACTION_BITS) // (ONE + decay))
        decay = decay * step >> FRACTION_BITS
    return values


def _gaussian_upper(half: int, fraction_bits: int) -> list[int]:
    return [ONE // 2 + gaussian_mass(i << (FRACTION_BITS - fraction_bits)) for i in range(half + 1)]


_UPPER_HALVES: dict[str, Callable[[int, int], list[int]]] = {
    "sigmoid": _sigmoid_upper,
    "tanh": _tanh_upper,
    "gaussian_cdf": _gaussian_upper,
}


def _frozen(values: list[int]) -> NDArray[np.int32]:
    array = np.array(values, np.int32)
    array.flags.writeable = False
    return array


def _check(fraction_bits: int, range_bits: int, output_bits: int) -> None:
    if not (0 <= fraction_bits <= 14 and 0 <= range_bits <= 5 and 1 <= output_bits <= 29):
        raise InvalidParameter(
            f"look-up tables take 0..14 fraction bits, 0..5 range bits and 1..29 output bits, "
            f"got {fraction_bits}, {range_bits}, {output_bits}"
        )
