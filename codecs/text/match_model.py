"""Match models: follow the longest earlier occurrence of the last few bytes."""

from __future__ import annotations

import numpy as np
from numba import njit

from .hashing import fold

__all__ = ["MATCH_LENGTHS", "advance_match", "length_bucket"]

MATCH_LENGTHS = (6, 12, 24)
_LONGEST = 400


@njit(nogil=True)
def advance_match(data, i, heads, base, mask, order, at, length):  # type: ignore[no-untyped-def]
    """Move a match past byte ``i - 1``, or look for a new one; return (position, length).

    ``heads[base:]`` maps the hash of the last ``order`` bytes to the position that followed them.
    Length 0 means no match. Candidates are verified byte by byte, so a collision costs nothing.
    """
    if length > 0 and data[at] == data[i - 1]:
        length = min(length + 1, 65535)
        at += 1
    else:
        length = 0
    if i < order:
        return at, length
    h = np.int64(order)
    for k in range(1, order + 1):
        h = h * 0x2F0B4C4797A3D5 + data[i - k] + 1
    h = fold(h, order)
    slot = base + ((h >> 20) & mask)
    if length == 0:
        candidate = np.int64(heads[slot])
        if candidate > 0:
            found = np.int64(0)
            while (
                found < _LONGEST and candidate - 1 - found >= 0 and data[candidate - 1 - found] == data[i - 1 - found]
            ):
                found += 1
            if found >= min(order, 8) - 1:
                length = found
                at = candidate
    heads[slot] = i
    return at, length


@njit(nogil=True, inline="always")
def length_bucket(length):  # type: ignore[no-untyped-def]
    """Logarithmic bucket of a match length, 0 to 63."""
    if length < 16:
        return length
    if length < 80:
        return min(16 + ((length - 16) >> 2), 31)
    return min(32 + ((length - 80) >> 4), 63)
