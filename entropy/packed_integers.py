"""Arrays of small non-negative integers in frame-of-reference bit packing.

A varint with the smallest value, one byte with the width in bits of the differences, then the
differences, most significant bit first, padded with zeros to a whole byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import CorruptFile
from .bit_io import append_varint, read_varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["append_packed", "read_packed"]

_MAX_WIDTH = 48
_MAX_CONSTANT = 1 << 20  # so that a few bytes cannot promise an array of any size


def append_packed(out: bytearray, values: NDArray[np.int64]) -> None:
    """Append ``values`` [count], each in 0 .. 2**48 - 1; the count is not stored."""
    minimum = int(values.min()) if values.size else 0
    differences = values - minimum
    width = int(differences.max()).bit_length() if values.size else 0
    if values.size > _MAX_CONSTANT:
        width = max(width, 1)
    append_varint(out, minimum)
    out.append(width)
    shifts = np.arange(width - 1, -1, -1)
    bits = (differences[:, None] >> shifts) & 1
    out += np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def read_packed(
    data: bytes | memoryview, position: int, count: int, what: str, unit: str = "lane"
) -> tuple[NDArray[np.int64], int]:
    """Read ``count`` values at ``position``; return them and the position after them.

    Raises:
        CorruptFile: the field is malformed or the data are too short for it; nothing larger than a
            small multiple of the data has been allocated by then. ``what`` names the field and
            ``unit`` what it counts.
    """
    minimum, position = read_varint(data, position, what)
    if position >= len(data):
        raise CorruptFile(f"{what}: the data end at byte {len(data)}, before the width")
    width = data[position]
    position += 1
    if minimum >= 1 << _MAX_WIDTH or width > _MAX_WIDTH:
        raise CorruptFile(f"{what}: {unit} 0 has {minimum} or more, in {width} bits; above 2**{_MAX_WIDTH}")
    if width == 0 and count > _MAX_CONSTANT:
        raise CorruptFile(f"{what}: {count} values without bits, at most {_MAX_CONSTANT} are allowed")
    end = position + -(-count * width // 8)
    if end > len(data):
        raise CorruptFile(f"{what}: {count} values of {width} bits end at byte {end}, the data at {len(data)}")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, end - position, position))
    if bits[count * width :].any():
        raise CorruptFile(f"{what}: the padding before byte {end} is not zero")
    values = np.full(count, minimum, np.int64)
    fields = bits[: count * width].reshape(count, width)
    for column in range(width):
        values += fields[:, column].astype(np.int64) << (width - 1 - column)
    return values, end
