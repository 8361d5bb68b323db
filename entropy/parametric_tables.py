"""Laplace and Gaussian frequency tables, indexed by a quantised scale.

Everything is computed with whole numbers of 160 fractional bits, never with the platform's
mathematical library, so the tables are the same on every machine. A file needs to carry only the
family and the scale index; :data:`RECIPE` names the exact computation and is part of every
numeric profile that uses it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..formats.errors import InvalidParameter
from .frequency_table import PRECISION, FrequencyTable, normalise_counts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "RECIPE",
    "SCALE_COUNT",
    "Family",
    "parametric_table",
    "scale_of_index",
    "scale_tables",
]

Family = Literal["laplace", "gaussian"]

RECIPE = "parametric-1"
SCALE_COUNT = 64
"""Scale ``i`` is ``2**(i / 6 - 3)``: from 0.125 to 181, six steps an octave."""

_FRACTION_BITS = 160
_ONE = 1 << _FRACTION_BITS
_SCALE_BITS = 48
_WEIGHT_BITS = 34


def scale_of_index(index: int) -> float:
    """The standard deviation (Gaussian) or mean absolute value (Laplace) that ``index`` stands for.

    For choosing an index and for reports; tables are computed from integers.
    """
    return _scale(index) / (1 << _SCALE_BITS)


def parametric_table(family: Family, index: int, *, bits: int = PRECISION) -> FrequencyTable:
    """The zero-mean table of ``family`` at scale ``index``, with an escape slot for the tails.

    Slot ``k`` holds the mass of the density between ``k - 1/2`` and ``k + 1/2``. The range is
    symmetric and ends where less than ``2**-16`` of the mass is left (``2**-8`` for 12 bits).

    Args:
        index: 0 .. :data:`SCALE_COUNT` - 1; see :func:`scale_of_index`.
        bits: 24, or 12 for frequencies that are multiples of ``2**12``.

    Raises:
        InvalidParameter: unknown family, index or bits.
    """
    if family not in ("laplace", "gaussian"):
        raise InvalidParameter(f"unknown family {family!r}; known: laplace, gaussian")
    if not 0 <= index < SCALE_COUNT:
        raise InvalidParameter(f"scale index {index} is not in 0..{SCALE_COUNT - 1}")
    if bits not in (12, PRECISION):
        raise InvalidParameter(f"bits must be 12 or {PRECISION}, got {bits}")
    return _table(family, int(index), bits)


def scale_tables(family: Family, *, bits: int = PRECISION) -> tuple[FrequencyTable, ...]:
    """All :data:`SCALE_COUNT` tables of ``family``, by scale index."""
    return tuple(parametric_table(family, index, bits=bits) for index in range(SCALE_COUNT))


@cache
def _table(family: Family, index: int, bits: int) -> FrequencyTable:
    tails = _laplace_tail if family == "laplace" else _gaussian_tail
    tail = tails(_scale(index))
    smallest = _ONE >> (bits * 2 // 3)
    weights: list[int] = []
    previous = _ONE // 2
    while 2 * previous > smallest or not weights:
        following = tail(2 * len(weights) + 1)
        weights.append(previous - following)
        previous = following
    # weights[0] is the half of the central slot above zero.
    upper = [weight >> (_FRACTION_BITS - _WEIGHT_BITS) for weight in weights[1:]]
    centre = weights[0] >> (_FRACTION_BITS - _WEIGHT_BITS - 1)
    escape = previous >> (_FRACTION_BITS - _WEIGHT_BITS - 1)
    counts = np.array([*reversed(upper), centre, *upper, escape], np.int64)
    frequencies = normalise_counts(counts, bits=bits) << (PRECISION - bits)
    return FrequencyTable(frequencies, minimum=-len(upper), escape=True)


def _scale(index: int) -> int:
    # floor(2**(index / 6 - 3 + _SCALE_BITS)), as the sixth root of a power of two
    return _integer_root(1 << (index + 6 * (_SCALE_BITS - 3)), 6)


def _integer_root(value: int, degree: int) -> int:
    root = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * root + value // root ** (degree - 1)) // degree
        if better >= root:
            return root
        root = better


def _laplace_tail(scale: int) -> Callable[[int], int]:
    """The mass above ``halves / 2`` of a Laplace density with mean absolute value ``scale``."""
    step = _exp_of_minus(_ONE * (1 << _SCALE_BITS) // (2 * scale))

    def tail(halves: int) -> int:
        return _power(step, halves) >> 1

    return tail


def _gaussian_tail(scale: int) -> Callable[[int], int]:
    """The mass above ``halves / 2`` of a Gaussian density with standard deviation ``scale``."""

    def tail(halves: int) -> int:
        return _ONE // 2 - _gaussian_mass(_ONE * halves * (1 << _SCALE_BITS) // (2 * scale))

    return tail


def _exp_of_minus(exponent: int) -> int:
    """``exp(-x)`` of a fixed-point ``x`` >= 0, from its series after halving until ``x`` < 1/256."""
    halvings = max(exponent.bit_length() - _FRACTION_BITS + 8, 0)
    reduced = exponent >> halvings
    total = term = _ONE
    order = 0
    while term:
        order += 1
        term = term * reduced // (order * _ONE)
        total += -term if order & 1 else term
    return _power(total, 1 << halvings)


def _power(base: int, exponent: int) -> int:
    result = _ONE
    while exponent:
        if exponent & 1:
            result = result * base >> _FRACTION_BITS
        base = base * base >> _FRACTION_BITS
        exponent >>= 1
    return result


def _gaussian_mass(x: int) -> int:
    """The mass of the standard normal density between 0 and a fixed-point ``x`` >= 0.

    All terms of the series ``phi(x) * (x + x**3 / 3 + x**5 / 15 + ...)`` are positive, so nothing
    cancels.
    """
    square = x * x >> _FRACTION_BITS
    total = term = x
    order = 1
    while term:
        order += 2
        term = (term * square >> _FRACTION_BITS) // order
        total += term
    density = _exp_of_minus(square >> 1) * _INVERSE_SQRT_TWO_PI >> _FRACTION_BITS
    return density * total >> _FRACTION_BITS


# floor(2**160 / sqrt(2 * pi))
_INVERSE_SQRT_TWO_PI = 583054796007218040734191730443699882195345907504
