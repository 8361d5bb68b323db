# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""The compiled loop that reads escape sections (see :mod:`.escapes`), for callers with many short ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import int64, uint8, uint64

from ..formats.errors import CorruptFile
from .escapes import MAX_CODE_BITS
from .native_compilation import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["unpack_escapes"]

_1, _3, _7 = uint64(1), uint64(3), uint64(7)


def unpack_escapes(data: bytes | memoryview, count: int, what: str) -> NDArray[np.int64]:
    """As :func:`.escapes.unpack_escapes`."""
    if count > 8 * len(data):
        raise CorruptFile(f"{what}: {count} escapes cannot fit in {len(data)} bytes")
    codes = np.empty(count, np.int64)
    used = _unpack(np.frombuffer(data, np.uint8), codes, MAX_CODE_BITS)
    if used < 0:
        raise CorruptFile(f"{what}: {count} escapes are not what its {len(data)} bytes hold")
    return codes


@compiled
def _unpack(data, codes, most_bits):
    """Fill ``codes``; return how many bits they take, or -1 where that is not all of ``data`` but zero padding."""
    size = int64(data.size) * 8
    position = int64(0)
    total = int64(0)
    for number in range(codes.size):
        width = int64(0)
        while position < size and not _bit(data, position):
            width += 1
            position += 1
        if position == size or width > most_bits:
            return int64(-1)
        position += 1
        total += width
        codes[number] = width
    if (position + total + 7) // 8 != data.size:
        return int64(-1)
    for number in range(codes.size):
        code = int64(1)
        for _ in range(codes[number]):
            code = (code << 1) | int64(_bit(data, position))
            position += 1
        codes[number] = code - 1
    for rest in range(position, size):
        if _bit(data, rest):
            return int64(-1)
    return position


@compiled
def _bit(data, position):
    place = uint64(position)
    return (data[place >> _3] >> uint8(_7 - (place & _7))) & uint8(1)
