"""Integer hashing for context tables: 64-bit two's-complement arithmetic that wraps."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged

__all__ = ["find_line", "fold", "spread"]


@merged
def fold(a, b):  # type: ignore[no-untyped-def]
    """Fold ``b`` into the running hash ``a``; both int64, the product wraps."""
    h = (np.int64(a) * 0x2F0B4C4797A3D5 + b + 0x51) * 0x3C6EF372FE94F82B
    return h ^ ((h >> 29) & 0x7FFFFFFFF)


@merged
def spread(context, node):  # type: ignore[no-untyped-def]
    """Hash of a context at a nibble boundary; ``node`` is the partial byte there (1 or 16-31)."""
    h = (context + node * 0x6F4F2A35) * 0x5851F42D4C957F2D
    return h ^ ((h >> 31) & 0x1FFFFFFFF)


@merged
def find_line(slots, last_line, h):  # type: ignore[no-untyped-def]
    """Word offset of the line for hash ``h``, claimed from the least used of three if absent.

    The three candidates share a 256-byte neighbourhood; use is the count of the line's root node.
    """
    check = (h >> 40) & 0xFFFF | 1
    line = h & last_line
    first = line << 4
    if (slots[first] >> 16) == check:
        return first
    second = (line ^ 1) << 4
    if (slots[second] >> 16) == check:
        return second
    third = (line ^ 2) << 4
    if (slots[third] >> 16) == check:
        return third
    chosen = first
    least = slots[first + 1] & 255
    other = slots[second + 1] & 255
    if other < least:
        chosen = second
        least = other
    if (slots[third + 1] & 255) < least:
        chosen = third
    slots[chosen] = check << 16
    for node in range(1, 16):
        slots[chosen + node] = 0x80000100
    return chosen
