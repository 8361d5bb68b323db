"""Unsigned LEB128 integers, the only variable-length integer of the container."""

from __future__ import annotations

from .errors import CorruptFile

__all__ = ["append_varint", "read_varint"]

_MAX_BYTES = 9  # nine groups of seven bits: values below 2**63


def append_varint(out: bytearray, value: int) -> None:
    """Append ``value`` (0 <= value < 2**63) in the shortest form."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{value} does not fit a 63-bit varint")
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(data: bytes, position: int, what: str) -> tuple[int, int]:
    """Return the value at ``position`` and the position after it; ``what`` names the field in errors."""
    value = 0
    for count in range(_MAX_BYTES):
        if position + count >= len(data):
            raise CorruptFile(f"{what}: the data ends inside an integer at byte {position + count}")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if byte == 0 and count > 0:
                raise CorruptFile(f"{what}: integer at byte {position} is not in its shortest form")
            return value, position + count + 1
    raise CorruptFile(f"{what}: integer at byte {position} is longer than {_MAX_BYTES} bytes")
