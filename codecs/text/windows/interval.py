"""Dividing the points of an interval among the next bytes.

A window of b bits starts with 2^b points. Each node keeps one unit for "the window stops here" and divides the others
among the next bytes. The interval of a node is ``units << exponent`` points with fewer than 2^32 units; the exponent
falls as the interval narrows, and is 0 once the points are few. Then the division is a divisor method like that of
d'Hondt, which gives scarce points to the bytes that use them best.
"""

from __future__ import annotations

from ....entropy.native_compilation import compiled, inlined

__all__ = ["SCARCE", "allocate", "renormalised"]

SCARCE = 1 << 16
"""Fewer units than this are divided by the divisor method."""

_DIVISOR_BITS = 24
_ROUNDING = 1 << 22  # a share is rounded up from 3/4 on


@inlined
def _quotas(frequency, multiplier, floor, points):  # type: ignore[no-untyped-def]
    total = 0
    for y in range(256):
        value = floor + ((frequency[y] * multiplier + _ROUNDING) >> _DIVISOR_BITS)
        points[y] = value
        total += value
    return total


@compiled
def allocate(frequency, units, everyone, points):  # type: ignore[no-untyped-def]
    """Divide ``units`` among the bytes: ``points`` [256] (int64) in proportion to ``frequency`` of sum 65,536.

    With ``everyone`` each byte gets at least one; there must be 256.
    """
    if units >= SCARCE:
        total = 0
        for y in range(256):
            total += frequency[y]
            points[y] = total
        for y in range(256):
            points[y] = units * points[y] >> 16
        for y in range(255, 0, -1):
            points[y] -= points[y - 1]
        return
    floor = 1 if everyone else 0
    most = 1
    for y in range(256):
        if frequency[y] > most:
            most = frequency[y]
    # Each share is rounded down by less than 3/4 and up by at most 1/4, which bounds the multiplier from both sides.
    shared = units - 256 * floor
    low = max(0, (shared - 64) << (_DIVISOR_BITS - 16))
    high = min(((shared + 1) << _DIVISOR_BITS) // most, (shared + 192) << (_DIVISOR_BITS - 16)) + 1
    while high - low > 1:
        middle = (low + high) >> 1
        if _quotas(frequency, middle, floor, points) <= units:
            low = middle
        else:
            high = middle
    left = units - _quotas(frequency, low, floor, points)
    # Some bytes would all get their next unit at once: the first of them get it.
    for y in range(256):
        if left > 0 and floor + ((frequency[y] * high + _ROUNDING) >> _DIVISOR_BITS) > points[y]:
            points[y] += 1
            left -= 1


@inlined
def renormalised(units, exponent):  # type: ignore[no-untyped-def]
    """The same interval with as many units as stay below 2^32."""
    while exponent > 0 and units < 1 << 31:
        units <<= 1
        exponent -= 1
    return units, exponent
