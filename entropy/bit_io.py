"""Variable-length integers and bit fields, the building blocks of every header in this layer."""

from __future__ import annotations

from ..formats.errors import CorruptFile

__all__ = ["BitReader", "BitWriter", "append_varint", "exp_golomb_width", "from_zigzag", "read_varint", "to_zigzag"]

_VARINT_BYTES = 9  # nine groups of seven bits: values below 2**63


def to_zigzag(value: int) -> int:
    """Map 0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def from_zigzag(code: int) -> int:
    """Invert :func:`to_zigzag`."""
    return -((code + 1) >> 1) if code & 1 else code >> 1


def append_varint(out: bytearray, value: int) -> None:
    """Append ``value`` (0 <= value < 2**63) as unsigned LEB128 in its shortest form."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{value} does not fit a 63-bit varint")
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(data: bytes | memoryview, position: int, what: str) -> tuple[int, int]:
    """Return the integer at ``position`` and the position after it.

    Raises:
        CorruptFile: the data ends inside the integer, or it is over-long; ``what`` names the field.
    """
    value = 0
    for count in range(_VARINT_BYTES):
        if position + count >= len(data):
            raise CorruptFile(f"{what}: the data ends inside an integer at byte {position + count}")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if byte == 0 and count > 0:
                raise CorruptFile(f"{what}: the integer at byte {position} has a padded form")
            return value, position + count + 1
    raise CorruptFile(f"{what}: the integer at byte {position} is longer than {_VARINT_BYTES} bytes")


def exp_golomb_width(value: int, order: int) -> int:
    """The number of bits of :meth:`BitWriter.write_exp_golomb`."""
    return 2 * ((value >> order) + 1).bit_length() - 1 + order


class BitWriter:
    """Collects bit fields, most significant bit first."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def write(self, value: int, width: int) -> None:
        """Append the low ``width`` bits of ``value``."""
        if width:
            self._bits.append(format(value & ((1 << width) - 1), f"0{width}b"))

    def write_exp_golomb(self, value: int, order: int) -> None:
        """Append ``value`` >= 0 in the exponential-Golomb code of the given order."""
        high = (value >> order) + 1
        self.write(high, 2 * high.bit_length() - 1)
        self.write(value, order)

    def to_bytes(self) -> bytes:
        """All bits so far, padded with zeros to a whole byte."""
        bits = "".join(self._bits)
        size = -(-len(bits) // 8)
        return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")


class BitReader:
    """Reads what :class:`BitWriter` wrote; every overrun is a :class:`CorruptFile`."""

    def __init__(self, data: bytes | memoryview, position: int, what: str) -> None:
        self._data = data
        self._bit = 8 * position
        self._end = 8 * len(data)
        self._what = what

    def read(self, width: int) -> int:
        """The next ``width`` bits as an unsigned integer."""
        stop = self._bit + width
        if stop > self._end:
            raise CorruptFile(f"{self._what}: the data ends at byte {len(self._data)}, inside a field")
        first, last = self._bit >> 3, (stop + 7) >> 3
        window = int.from_bytes(self._data[first:last], "big")
        self._bit = stop
        return (window >> (8 * last - stop)) & ((1 << width) - 1)

    def read_exp_golomb(self, order: int, limit: int) -> int:
        """The next exponential-Golomb value; more than ``limit`` is corrupt."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > limit.bit_length() + 1:
                raise CorruptFile(f"{self._what}: a value at bit {self._bit} is above {limit}")
        high = (1 << zeros) | self.read(zeros)
        value = ((high - 1) << order) | self.read(order)
        if value > limit:
            raise CorruptFile(f"{self._what}: value {value} before bit {self._bit} is above {limit}")
        return value

    def finish(self) -> int:
        """Check that the padding is zero and return the byte position after it."""
        padding = -self._bit % 8
        if self.read(padding):
            raise CorruptFile(f"{self._what}: padding before byte {self._bit >> 3} is not zero")
        return self._bit >> 3
