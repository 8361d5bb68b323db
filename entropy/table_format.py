"""Frequency tables as bytes: predicted frequencies, residuals in an adaptive Golomb code.

The normative description is in ``docs/entropy.md``, section "Frequency table".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import CorruptFile, InvalidParameter
from .bit_io import BitReader, BitWriter, append_varint, exp_golomb_width, from_zigzag, read_varint, to_zigzag
from .frequency_table import MAX_MINIMUM, MAX_SYMBOLS, PRECISION, TOTAL, FrequencyTable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_table", "write_table"]

_WHAT = "frequency table"
_PREDICTORS = 3  # none, previous value, geometric continuation


def write_table(table: FrequencyTable) -> bytes:
    """Serialise ``table`` with whichever predictor makes it smallest."""
    shift = table.alignment
    values = (table.frequencies >> np.uint32(shift)).tolist()
    tokens = [list(_tokens(values, predictor)) for predictor in range(_PREDICTORS)]
    sizes = [sum(exp_golomb_width(value, order) for value, order in found) for found in tokens]
    predictor = sizes.index(min(sizes))
    out = bytearray([predictor | int(table.escape) << 2 | shift << 3])
    append_varint(out, table.slots)
    append_varint(out, to_zigzag(table.minimum))
    writer = BitWriter()
    for value, order in tokens[predictor]:
        writer.write_exp_golomb(value, order)
    return bytes(out) + writer.to_bytes()


def read_table(data: bytes | memoryview, position: int) -> tuple[FrequencyTable, int]:
    """Read the table at ``position``; return it and the position after it.

    Raises:
        CorruptFile: the bytes do not describe a valid table. Sizes are checked before allocation.
    """
    if position >= len(data):
        raise CorruptFile(f"{_WHAT}: the data ends at byte {len(data)}, before the table")
    head = data[position]
    predictor, escape, shift = head & 3, bool(head & 4), head >> 3
    if predictor >= _PREDICTORS or shift > PRECISION:
        raise CorruptFile(f"{_WHAT}: byte {position} is 0x{head:02x}, not a table header")
    slots, position = read_varint(data, position + 1, f"{_WHAT}, slots")
    if not 1 <= slots <= min(MAX_SYMBOLS, TOTAL >> shift):
        raise CorruptFile(f"{_WHAT}: {slots} slots, allowed are 1 to {min(MAX_SYMBOLS, TOTAL >> shift)}")
    zigzag, position = read_varint(data, position, f"{_WHAT}, minimum")
    minimum = from_zigzag(zigzag)
    if abs(minimum) > MAX_MINIMUM:
        raise CorruptFile(f"{_WHAT}: the minimum {minimum} is beyond +-2**62")
    reader = BitReader(data, position, _WHAT)
    values = _read_values(reader, slots, predictor, TOTAL >> shift)
    frequencies = np.array(values, np.int64) << shift
    try:
        table = FrequencyTable(frequencies, minimum=minimum, escape=escape)
    except InvalidParameter as error:
        raise CorruptFile(f"{_WHAT} before byte {reader.finish()}: {error}") from error
    if table.alignment != shift:
        raise CorruptFile(f"{_WHAT}: stored with shift {shift}, canonical is {table.alignment}")
    return table, reader.finish()


class _GolombState:
    """The order of the Golomb code, following the mean of recent residuals."""

    def __init__(self) -> None:
        self._sum = 4
        self._count = 1

        self.order = 2

    def update(self, code: int) -> None:
        self._sum += code
        self._count += 1
        if self._count == 8:
            self._sum >>= 1
            self._count >>= 1
        self.order = max((self._sum // self._count).bit_length() - 1, 0)


def _predict(previous: int, before: int, predictor: int) -> int:
    if predictor == 1:
        return previous
    # Tails of the usual densities shrink by a nearly constant factor.
    return min(max(previous * previous // before, 1), TOTAL)


def _residual_code(value: int, previous: int, before: int, predictor: int) -> int:
    if predictor == 0:
        return value - 1
    return to_zigzag(value - _predict(previous, before, predictor))


def _value_of_code(code: int, previous: int, before: int, predictor: int) -> int:
    if predictor == 0:
        return code + 1
    return from_zigzag(code) + _predict(previous, before, predictor)


def _tokens(values: list[int], predictor: int) -> Iterator[tuple[int, int]]:
    """The exponential-Golomb codes of a table: pairs of value and order."""
    state = _GolombState()
    previous = before = 1
    position = 0
    while position < len(values):
        value = values[position]
        code = _residual_code(value, previous, before, predictor)
        yield code, state.order
        state.update(code)
        position += 1
        before, previous = previous, value
        if value == 1:
            run = position
            while run < len(values) and values[run] == 1:
                run += 1
            yield run - position, 0
            if run > position:
                before, position = 1, run


def _read_values(reader: BitReader, slots: int, predictor: int, limit: int) -> list[int]:
    state = _GolombState()
    values: list[int] = []
    previous = before = 1
    while len(values) < slots:
        code = reader.read_exp_golomb(state.order, 4 * TOTAL)
        value = _value_of_code(code, previous, before, predictor)
        if not 1 <= value <= limit:
            raise CorruptFile(f"{_WHAT}: slot {len(values)} has frequency {value}, not in 1..{limit}")
        state.update(code)
        values.append(value)
        before, previous = previous, value
        if value == 1:
            run = reader.read_exp_golomb(0, slots - len(values))
            values.extend([1] * run)
            before = 1 if run else before
    return values
