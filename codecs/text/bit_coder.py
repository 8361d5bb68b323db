"""The binary range coder of a block, either way; its four numbers live in an array so that the parts can share them."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged

__all__ = ["DECODE", "ENCODE", "code_bit", "finish", "start"]

ENCODE = 0
DECODE = 1
_LOW, _HIGH, _CODE, _POSITION = 0, 1, 2, 3
_FLUSH_BYTES = 4
# A bit adds at most four bytes and the end four more.
_ROOM_BYTES = 8


@merged
def start(direction, coded, coder):  # type: ignore[no-untyped-def]
    """Set ``coder`` to the beginning of ``coded``."""
    coder[_LOW] = 0
    coder[_HIGH] = 0xFFFFFFFF
    coder[_CODE] = 0
    coder[_POSITION] = 0
    if direction == DECODE:
        for _ in range(_FLUSH_BYTES):
            _pull(coded, coder)


@merged
def _pull(coded, coder):  # type: ignore[no-untyped-def]
    position = coder[_POSITION]
    following = np.int64(coded[position]) if position < len(coded) else np.int64(0)
    coder[_CODE] = (coder[_CODE] << 8 & 0xFFFFFFFF) | following
    coder[_POSITION] = position + 1


@merged
def code_bit(direction, coded, coder, p, bit):  # type: ignore[no-untyped-def]
    """Code ``bit``, or decode one, that is 1 with probability ``p`` of 65,536; return it, or -1 for want of room."""
    low = coder[_LOW]
    high = coder[_HIGH]
    width = high - low
    middle = low + (width >> 16) * p + ((width & 0xFFFF) * p >> 16)
    if direction == DECODE:
        bit = np.int64(1) if coder[_CODE] <= middle else np.int64(0)
    if bit == 1:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) & 0xFF000000 == 0:
        if direction == ENCODE:
            if coder[_POSITION] + _ROOM_BYTES > len(coded):
                return np.int64(-1)
            coded[coder[_POSITION]] = high >> 24
            coder[_POSITION] += 1
        else:
            _pull(coded, coder)
        low = low << 8 & 0xFFFFFFFF
        high = (high << 8 & 0xFFFFFFFF) | 255
    coder[_LOW] = low
    coder[_HIGH] = high
    return bit


@merged
def finish(direction, coded, coder):  # type: ignore[no-untyped-def]
    """End the code; return its size in bytes, or -1 for lack of room."""
    if direction == ENCODE:
        if coder[_POSITION] + _ROOM_BYTES > len(coded):
            return np.int64(-1)
        for k in range(_FLUSH_BYTES):
            coded[coder[_POSITION]] = coder[_HIGH] >> (24 - 8 * k) & 255
            coder[_POSITION] += 1
    return coder[_POSITION]
