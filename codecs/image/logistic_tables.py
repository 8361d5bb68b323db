"""Exponentials and the logistic function as integer tables, made with integer arithmetic alone.

No platform's ``libm`` is asked, so every machine has the same tables. Arguments are fixed-point with
:data:`FRACTION_BITS` bits, cumulative probabilities have 24.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CDF_ENTRIES_PER_UNIT",
    "CDF_RANGE",
    "FRACTION_BITS",
    "INVERSE_BITS",
    "LOG_SCALE_HIGH",
    "LOG_SCALE_LOW",
    "WEIGHT_BITS",
    "LogisticTables",
    "logistic_tables",
]

FRACTION_BITS = 10
CDF_RANGE = 16
CDF_ENTRIES_PER_UNIT = 128
WEIGHT_BITS = 16
INVERSE_BITS = 20
LOG_SCALE_LOW = -3 << FRACTION_BITS
LOG_SCALE_HIGH = 5 << FRACTION_BITS

_GUARD_BITS = 192
_WEIGHT_RANGE = 12
_VARIANCE_BITS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class LogisticTables:
    """``cdf`` (int64 ``[4097]``): logistic CDF at ``-16 .. 16`` in steps of 1/128, in units of ``2**-24``.

    ``weight`` (int64): ``exp(-t)`` in ``2**-16``, never 0, for t from 0 in steps of ``2**-10``; ``inverse_scale``:
    ``exp(-t)`` in ``2**-20`` and ``variance``: ``pi**2 / 3 * exp(2 t)`` in ``2**-20`` for log-scales t from -3 to 5.
    """

    cdf: NDArray[np.int64]
    weight: NDArray[np.int64]
    inverse_scale: NDArray[np.int64]
    variance: NDArray[np.int64]


@cache
def logistic_tables() -> LogisticTables:
    """The tables, computed once."""
    one = 1 << _GUARD_BITS
    step = _exponential_of_reciprocal(1 << FRACTION_BITS)
    powers = _powers(step, (_WEIGHT_RANGE << FRACTION_BITS) + 1)
    weight = [max(1, value >> (_GUARD_BITS - WEIGHT_BITS)) for value in powers]
    scales = range(LOG_SCALE_LOW, LOG_SCALE_HIGH + 1)
    inverse = [_exponential(-scale, powers) >> (_GUARD_BITS - INVERSE_BITS) for scale in scales]
    # pi**2 / 3 = 3.28986813369645...
    variance = [
        (_exponential(2 * scale, powers) * 328986813369645 // 10**14) >> (_GUARD_BITS - _VARIANCE_BITS)
        for scale in scales
    ]
    fine = _powers(_exponential_of_reciprocal(CDF_ENTRIES_PER_UNIT), CDF_RANGE * CDF_ENTRIES_PER_UNIT + 1)
    below = [(one * value // (one + value)) >> (_GUARD_BITS - 24) for value in reversed(fine)]
    above = [(1 << 24) - value for value in reversed(below[:-1])]
    cdf = below + above
    cdf[0], cdf[-1] = 0, 1 << 24
    return LogisticTables(
        cdf=np.array(cdf, np.int64),
        weight=np.array(weight, np.int64),
        inverse_scale=np.array(inverse, np.int64),
        variance=np.array(variance, np.int64),
    )


def _exponential_of_reciprocal(divisor: int) -> int:
    """``exp(-1 / divisor)`` with guard bits, by its power series."""
    one = 1 << _GUARD_BITS
    term, total, order = one, one, 0
    while term:
        order += 1
        term = term // (divisor * order)
        total += -term if order % 2 else term
    return total


def _powers(base: int, count: int) -> list[int]:
    """``base ** 0 .. base ** (count - 1)`` with guard bits."""
    values = [1 << _GUARD_BITS]
    for _ in range(count - 1):
        values.append(values[-1] * base >> _GUARD_BITS)
    return values


def _exponential(argument: int, powers: list[int]) -> int:
    """``exp(argument * 2**-10)`` with guard bits, from the powers of ``exp(-2**-10)``."""
    if argument <= 0:
        return powers[-argument]
    return (1 << 2 * _GUARD_BITS) // powers[argument]
