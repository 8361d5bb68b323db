# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""Quantising coefficients around their predictions, and putting them back; compiled loops.

Encoder and decoder share the reconstruction, so that both follow the same closed loop. A coder's *entry* is the class
of a symbol times ``stride`` plus its slot in the frequency table of that class; the slot after the last one escapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import float32, int32, uint8, uint32, uint64

from ...entropy.native_compilation import compiled, inlined
from ...formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...entropy.frequency_table import FrequencyTable

__all__ = ["Escapes", "SlotTables", "add_escapes", "dequantise", "quantise", "quantise_to_entries", "reconstruct"]

_MAX_SYMBOL = 1 << 30
_LIMIT = float32(_MAX_SYMBOL)
_8 = uint64(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Escapes:
    """Symbols outside their tables: flat places in a part, ascending, and int32 symbols; ``costs`` in bits are of all
    other symbols of the part."""

    places: NDArray[np.int64]
    symbols: NDArray[np.int32]
    costs: float

    def after(self, count: int) -> Escapes:
        """The same with ``count`` symbols before them."""
        return Escapes(places=self.places + count, symbols=self.symbols, costs=self.costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTables:
    """Where the slots of each class begin and how many symbols it has, entries a class, and the bits of each entry."""

    minima: NDArray[np.int32]
    sizes: NDArray[np.uint32]
    stride: int
    costs: NDArray[np.float32]

    @classmethod
    def of(cls, tables: Sequence[FrequencyTable], stride: int, costs: NDArray[np.float32]) -> SlotTables:
        return cls(
            minima=np.array([table.minimum for table in tables], np.int32),
            sizes=np.array([table.slots - 1 for table in tables], np.uint32),
            stride=stride,
            costs=costs,
        )


def quantise(
    coefficients: NDArray[np.float32],
    predictions: NDArray[np.float32],
    classes: NDArray[np.uint16],
    steps: NDArray[np.float32],
    shifts: NDArray[np.float32],
    symbols: NDArray[np.int32],
) -> None:
    """Fill ``symbols`` and turn ``predictions`` into reconstructions, in place.

    ``coefficients``, ``predictions``, ``classes``, ``symbols`` are [tokens, heads, width]; ``steps`` [heads, tokens];
    ``shifts`` [classes, 4]. Raises :class:`InvalidParameter` where a symbol would not fit 31 bits.
    """
    _check(_quantise(coefficients, predictions, classes, steps, shifts, symbols))


def quantise_to_entries(
    coefficients: NDArray[np.float32],
    predictions: NDArray[np.float32],
    classes: NDArray[np.uint16],
    steps: NDArray[np.float32],
    shifts: NDArray[np.float32],
    values: NDArray[np.float32],
    slots: SlotTables,
    entries: NDArray[np.uint16],
) -> Escapes:
    """The same, filling the ``entries`` of a coder; ``values`` are those of :func:`reconstruct`."""
    places = np.empty(entries.size, np.int64)  # whose pages cost nothing until they are used
    symbols = np.empty(entries.size, np.int32)
    found, largest, bits = _quantise_to_entries(
        coefficients,
        predictions,
        classes,
        steps,
        shifts,
        values,
        slots.minima,
        slots.sizes,
        np.uint64(slots.stride),
        slots.costs,
        entries,
        places,
        symbols,
    )
    _check(largest)
    return Escapes(places=places[:found].copy(), symbols=symbols[:found].copy(), costs=bits)


def reconstruct(shifts: NDArray[np.float32], marker: int | None = None) -> NDArray[np.float32]:
    """What symbol ``s`` of class ``c`` stands for, in steps, at place ``c << 8 | s & 255``; zero for ``marker``.

    ``shifts`` are [classes, 4].
    """
    symbols = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
    magnitudes = np.abs(symbols)
    values: NDArray[np.float32] = magnitudes - shifts[:, np.minimum(magnitudes, 3).astype(np.int64)]
    values = np.where(symbols < 0, -values, values)
    values[:, 0] = 0
    if marker is not None:
        values[:, marker] = 0
    return np.ascontiguousarray(values.ravel())


@inlined
def _value(symbol, number, shifts):
    """The reconstruction of a symbol of any size, in steps."""
    magnitude = abs(symbol)
    value = magnitude - shifts[number, int(min(magnitude, float32(3.0)))]
    return -value if symbol < 0 else value


@compiled
def _quantise(coefficients, predictions, classes, steps, shifts, symbols):
    tokens, heads, width = coefficients.shape
    largest = float32(0.0)
    for token in range(tokens):
        for head in range(heads):
            step = steps[head, token]
            inverse = float32(1.0) / step
            for channel in range(width):
                error = coefficients[token, head, channel] - predictions[token, head, channel]
                symbol = np.rint(error * inverse)
                largest = max(largest, abs(symbol))
                symbols[token, head, channel] = int32(min(_LIMIT, max(-_LIMIT, symbol)))
                if symbol != 0:
                    predictions[token, head, channel] += _value(symbol, classes[token, head, channel], shifts) * step
    return largest


@compiled
def _quantise_to_entries(
    coefficients, predictions, classes, steps, shifts, values,
    minima, sizes, stride, costs, entries, places, symbols,
):  # fmt: skip
    tokens, heads, width = coefficients.shape
    largest = float32(0.0)
    found = 0
    bits = 0.0
    rounded = np.empty(width, np.int32)
    for token in range(tokens):
        for head in range(heads):
            step = steps[head, token]
            inverse = float32(1.0) / step
            for channel in range(width):
                error = coefficients[token, head, channel] - predictions[token, head, channel]
                rounded[channel] = int32(min(_LIMIT, max(-_LIMIT, np.rint(error * inverse))))
            row_bits = float32(0.0)
            for channel in range(width):
                number = uint64(classes[token, head, channel])
                symbol = rounded[channel]
                slot = uint32(symbol - minima[number])
                value = values[(number << _8) | uint64(uint8(symbol))]
                if slot >= sizes[number]:
                    slot = sizes[number]
                    value = _value(float32(symbol), number, shifts)
                    largest = max(largest, abs(float32(symbol)))
                    places[found] = (token * heads + head) * width + channel
                    symbols[found] = symbol
                    found += 1
                predictions[token, head, channel] += value * step
                entry = number * stride + uint64(slot)
                entries[token, head, channel] = entry
                row_bits += costs[entry]
            bits += row_bits
    return found, largest, bits


@compiled
def dequantise(codes, classes, steps, values, predictions):
    """Turn ``predictions`` [tokens, heads, width] into reconstructions, in place, but for escapes.

    ``codes`` uint8 are symbols modulo 256 or the marker of an escape, ``values`` those of :func:`reconstruct`.
    """
    tokens, heads, width = codes.shape
    for token in range(tokens):
        for head in range(heads):
            step = steps[head, token]
            for channel in range(width):
                place = (uint64(classes[token, head, channel]) << _8) | uint64(codes[token, head, channel])
                predictions[token, head, channel] += values[place] * step


@compiled
def add_escapes(places, symbols, classes, steps, shifts, predictions):
    """Add the escapes, at flat ``places`` of ``predictions``, int64 ``symbols``."""
    _, heads, width = predictions.shape
    for number in range(places.size):
        row, channel = divmod(places[number], width)
        token, head = divmod(row, heads)
        value = _value(float32(symbols[number]), classes[token, head, channel], shifts)
        predictions[token, head, channel] += value * steps[head, token]


def _check(largest: float) -> None:
    if not largest < _MAX_SYMBOL:
        raise InvalidParameter(
            f"a value is {largest:.1e} quantisation steps from its prediction; lower the quality, or use kv-lossless"
        )
