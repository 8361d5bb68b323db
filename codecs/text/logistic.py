"""Logistic tables in integers: stretch, squash and reciprocals, the same on every machine.

Probabilities travel as integers of 12, 16 or 22 bits; the logistic domain ("stretch", the log odds)
travels as a signed integer with 170 units to the nat, clipped to +-2047 (about 12 nats). The tables
come from 96-bit fixed-point arithmetic on Python integers, never from the platform's libm.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRETCH_LIMIT", "UNITS_PER_NAT", "LogisticTables", "logistic_tables"]

UNITS_PER_NAT = 170
STRETCH_LIMIT = 2047
_FIXED_BITS = 96


class LogisticTables(NamedTuple):
    """Look-up tables shared by encoder and decoder.

    ``squash`` (uint16, 4096): index stretch + 2048, value a 16-bit probability in [1, 65535].
    ``stretch`` (int16, 4096): index a 12-bit probability, value in [-2047, 2047].
    ``reciprocal`` (uint16, 1024): round(65536 / (n + 1.5)), the step of a counter seen n times.
    """

    squash: NDArray[np.uint16]
    stretch: NDArray[np.int16]
    reciprocal: NDArray[np.uint16]


def _exponentials() -> list[int]:
    """Fixed-point e^(-s / 170) for s = 0 .. 2048, by Taylor series and repeated products."""
    one = 1 << _FIXED_BITS
    term, step = one, one
    for k in range(1, 40):
        term = -term // (UNITS_PER_NAT * k)
        step += term
    values = [one]
    for _ in range(2048):
        values.append((values[-1] * step) >> _FIXED_BITS)
    return values


@lru_cache(maxsize=1)
def logistic_tables() -> LogisticTables:
    """Build the three tables once per process."""
    exponentials = _exponentials()
    one = 1 << _FIXED_BITS
    squash = np.zeros(4096, np.uint16)
    for index in range(4096):
        s = index - 2048
        e = exponentials[abs(s)]
        numerator = one if s >= 0 else e
        squash[index] = min(65535, max(1, ((numerator << 17) // (one + e) + 1) >> 1))
    # The inverse is the smallest s whose probability reaches the middle of the 12-bit cell.
    stretch = np.zeros(4096, np.int16)
    s = -STRETCH_LIMIT
    for p in range(4096):
        while s < STRETCH_LIMIT and squash[s + 2048] < p * 16 + 8:
            s += 1
        stretch[p] = s
    n = np.arange(1024, dtype=np.int64)
    reciprocal = ((4 * 65536 + 2 * n + 3) // (4 * n + 6)).astype(np.uint16)
    return LogisticTables(squash, stretch, reciprocal)
