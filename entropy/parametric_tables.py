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
from .exact.fixed_point import FRACTION_BITS, ONE, exp_of_minus, gaussian_mass, integer_root, power
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
    smallest = ONE >> (bits * 2 // 3)
    weights: list[int] = []
    previous = ONE // 2
    while 2 * previous > smallest or not weights:
        following = tail(2 * len(weights) + 1)
        weights.append(previous - following)
        previous = following
    # weights[0] is the half of the central slot above zero.
    upper = [weight >> (FRACTION_BITS - _WEIGHT_BITS) for weight in weights[1:]]
    centre = weights[0] >> (FRACTION_BITS - _WEIGHT_BITS - 1)
    escape = previous >> (FRACTION_BITS - _WEIGHT_BITS - 1)
    counts = np.array([*reversed(upper), centre, *upper, escape], np.int64)
    frequencies = normalise_counts(counts, bits=bits) << (PRECISION - bits)
    return FrequencyTable(frequencies, minimum=-len(upper), escape=True)


def _scale(index: int) -> int:
    # floor(2**(index / 6 - 3 + _SCALE_BITS)), as the sixth root of a power of two
    return integer_root(1 << (index + 6 * (_SCALE_BITS - 3)), 6)


def _laplace_tail(scale: int) -> Callable[[int], int]:
    """The mass above ``halves / 2`` of a Laplace density with mean absolute value ``scale``."""
    step = exp_of_minus(ONE * (1 << _SCALE_BITS) // (2 * scale))

    def tail(halves: int) -> int:
        return power(step, halves) >> 1

    return tail


def _gaussian_tail(scale: int) -> Callable[[int], int]:
    """The mass above ``halves / 2`` of a Gaussian density with standard deviation ``scale``."""

    def tail(halves: int) -> int:
        return ONE // 2 - gaussian_mass(ONE * halves * (1 << _SCALE_BITS) // (2 * scale))

    return tail
