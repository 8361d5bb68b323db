"""Values outside a table's range, as a bit-packed side section of Elias-gamma codes.

The section holds all unary length prefixes first and all remaining bits after them, which lets
both directions run vectorised. ``docs/entropy.md``, section "Escapes", is normative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable

__all__ = [
    "MAX_CODE_BITS",
    "escape_codes",
    "pack_escapes",
    "split_escapes",
    "table_bounds",
    "unpack_escapes",
    "values_of_codes",
]

MAX_CODE_BITS = 62


def escape_codes(
    values: NDArray[np.int64], minimum: NDArray[np.int64], maximum: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Map values outside ``minimum .. maximum`` to 0, 1, 2, ...: even above, odd below the range.

    Raises:
        InvalidParameter: a value is so far out (about 2**61) that its code would not fit.
    """
    above = values > maximum
    # uint64 differences cannot overflow, whatever the two int64 operands are.
    distance = np.where(
        above,
        values.view(np.uint64) - maximum.view(np.uint64),
        minimum.view(np.uint64) - values.view(np.uint64),
    )
    if distance.size and int(distance.max()) > 1 << (MAX_CODE_BITS - 1):
        raise InvalidParameter("a value lies more than 2**61 outside its table and cannot be escaped")
    return ((distance.astype(np.int64) - 1) << 1) | ~above


def values_of_codes(
    codes: NDArray[np.int64], minimum: NDArray[np.int64], maximum: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Invert :func:`escape_codes`."""
    distance = (codes >> 1) + 1
    return np.where(codes & 1, minimum - distance, maximum + distance)


def pack_escapes(codes: NDArray[np.int64]) -> bytes:
    """Elias-gamma codes of ``codes + 1``: all prefixes, then all suffixes, padded with zeros."""
    if codes.size == 0:
        return b""
    shifted = codes + 1
    # a float64 may round up to the next power of two, whose exponent is then one too large
    widths = np.frexp(shifted.astype(np.float64))[1].astype(np.int64) - 1
    widths -= (shifted >> widths) == 0
    prefixes = np.zeros(int(widths.sum()) + codes.size, np.uint8)
    prefixes[np.cumsum(widths + 1) - 1] = 1
    index = _suffix_index(widths)
    suffixes = (shifted[index.owner] >> index.bit) & 1
    return np.packbits(np.concatenate([prefixes, suffixes.astype(np.uint8)])).tobytes()


def unpack_escapes(data: bytes | memoryview, count: int, what: str) -> NDArray[np.int64]:
    """Read ``count`` codes that fill ``data`` exactly.

    Raises:
        CorruptFile: the section is too short or too long for ``count`` codes; ``what`` names it.
    """
    if count == 0 and len(data) == 0:
        return np.zeros(0, np.int64)
    if count > 8 * len(data):
        raise CorruptFile(f"{what}: {count} escapes cannot fit in {len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    ends = np.flatnonzero(bits)[:count]
    if ends.size < count or count == 0:
        raise CorruptFile(f"{what}: {ends.size} of {count} escape prefixes found")
    widths = np.diff(ends, prepend=-1) - 1
    if int(widths.max()) > MAX_CODE_BITS:
        raise CorruptFile(f"{what}: an escape code has {int(widths.max())} bits")
    first = int(ends[-1]) + 1
    stop = first + int(widths.sum())
    if -(-stop // 8) != len(data):
        raise CorruptFile(f"{what}: {count} escapes take {-(-stop // 8)} bytes, found {len(data)}")
    if bits[stop:].any():
        raise CorruptFile(f"{what}: the padding of the escapes is not zero")
    shifted = np.int64(1) << widths
    index = _suffix_index(widths)
    longer = np.flatnonzero(widths)
    if longer.size:
        ends_of = np.cumsum(widths)
        set_bits = bits[first:stop].astype(np.int64) << index.bit
        shifted[longer] += np.add.reduceat(set_bits, (ends_of - widths)[longer])
    return shifted - 1


class _SuffixIndex:
    """For each suffix bit of the section: which code owns it, and its position in that code."""

    def __init__(self, owner: NDArray[np.int64], bit: NDArray[np.int64]) -> None:
        self.owner = owner
        self.bit = bit


def _suffix_index(widths: NDArray[np.int64]) -> _SuffixIndex:
    owner = np.repeat(np.arange(widths.size), widths)
    ends = np.cumsum(widths)
    return _SuffixIndex(owner, ends[owner] - 1 - np.arange(owner.size))


def split_escapes(values: NDArray[np.int64], table: FrequencyTable) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Slots of ``values`` under ``table``, and the escape codes of those that lie outside it.

    Raises:
        InvalidParameter: a value lies outside and the table has no escape slot.
    """
    # Wrap-around is harmless: wrapped differences are still outside the table.
    offsets = values.view(np.uint64) - np.int64(table.minimum).view(np.uint64)
    regular = table.slots - table.escape
    outside = offsets >= np.uint64(regular)
    if not outside.any():
        return offsets.astype(np.int32), np.zeros(0, np.int64)
    if not table.escape:
        raise InvalidParameter(
            f"{int(outside.sum())} values (the first is {int(values[outside][0])}) lie outside "
            f"{table.minimum}..{table.maximum} and the table has no escape slot; "
            f"build it with escape=True"
        )
    codes = escape_codes(values[outside], *table_bounds(table))
    return np.where(outside, regular, offsets).astype(np.int32), codes


def table_bounds(table: FrequencyTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``minimum`` and ``maximum`` of ``table``, as :func:`escape_codes` takes them: int64 [1] each."""
    return np.array([table.minimum], np.int64), np.array([table.maximum], np.int64)
