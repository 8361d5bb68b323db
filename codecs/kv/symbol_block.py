"""The lanes of a token chunk: independent ANS streams whose classes the reader derives and the file need not hold.

One payload per layer: number of lanes, their word counts (frame-of-reference packed), number of escapes, words, and
the escapes of all lanes together. Lanes are whole token ranges of one part after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.escapes import escape_codes, pack_escapes, unpack_escapes, values_of_codes
from ...entropy.frequency_table import PRECISION
from ...entropy.lane_block import LaneBlock, LaneClasses
from ...entropy.lane_codes import plan_codes
from ...entropy.packed_integers import append_packed, read_packed
from ...formats.errors import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...entropy.frequency_table import FrequencyTable

__all__ = ["LANE_SYMBOLS", "DecodedSymbols", "SymbolEncoder", "decode_payloads"]

LANE_SYMBOLS = 24_576
_WHAT = "cache lanes"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedSymbols:
    """The symbols of a part, modulo 256: ``codes`` uint8 [tokens, heads, width]; ``marker`` is the next of ``escaped``.

    ``places`` are the flat positions of the escapes, ascending.
    """

    codes: NDArray[Any]
    marker: int
    places: NDArray[np.int64]
    escaped: NDArray[np.int64]

    def first_escape(self, token: int) -> int:
        """How many escapes lie before ``token``."""
        return int(np.searchsorted(self.places, token * (self.codes.size // max(len(self.codes), 1))))


class SymbolEncoder:
    """Encodes symbols under ``tables``; one is made for a whole cache, and any number of threads may use it."""

    def __init__(self, tables: Sequence[FrequencyTable]) -> None:
        from ...entropy import lanes_numba  # compiles or loads native code

        self._encode = lanes_numba.prepare_encoder(tables)
        self._minima = np.array([table.minimum for table in tables], np.int32)
        self._maxima = np.array([table.maximum for table in tables], np.int32)
        self._costs = np.zeros((len(tables), max(table.slots for table in tables)))
        for row, table in zip(self._costs, tables, strict=True):
            row[: table.slots] = PRECISION - np.log2(table.frequencies)

    def encode(self, parts: Sequence[NDArray[np.int32]], classes: Sequence[NDArray[np.uint16]]) -> tuple[bytes, float]:
        """The payload of a layer, [tokens, ...] for each part, and its ideal code length in bits, escapes included."""
        from .slot_filling import fill_slots

        counts = np.array([count for part in parts for count in _lane_counts(part.shape)], np.int64)
        symbols = np.concatenate([part.ravel() for part in parts])
        numbers = np.concatenate([part.ravel() for part in classes])
        slots = np.empty(symbols.size, np.uint8 if self._costs.shape[1] <= 256 else np.uint16)
        seen = np.zeros(self._costs.shape, np.int64)
        places = np.empty(1 << 14, np.int64)
        found = fill_slots(symbols, numbers, self._minima, self._maxima, slots, seen, places)
        if found > places.size:
            places = np.empty(found, np.int64)
            fill_slots(symbols, numbers, self._minima, self._maxima, slots, np.zeros_like(seen), places)
        places = places[:found]
        own = numbers[places]
        codes = escape_codes(
            symbols[places].astype(np.int64), self._minima[own].astype(np.int64), self._maxima[own].astype(np.int64)
        )
        words, sizes = self._encode(slots, counts, _lane_classes(numbers, counts))
        ideal = float((seen * self._costs).sum() + (2 * np.floor(np.log2(codes + 1)) + 1).sum())
        return _pack(words, sizes, codes), ideal


def decode_payloads(
    payloads: Sequence[bytes],
    shapes: Sequence[Sequence[tuple[int, ...]]],
    classes: NDArray[np.uint16],
    tables: Sequence[FrequencyTable],
    *,
    threads: int,
) -> list[list[DecodedSymbols]]:
    """The symbols of every part of every layer; ``classes`` are those of all of them, one after the other.

    Raises :class:`CorruptFile` naming the lane whose words do not end with its symbols.
    """
    from ...entropy import lanes_numba

    counts = [np.array([count for shape in row for count in _lane_counts(shape)], np.int64) for row in shapes]
    unpacked = [_unpack(data, own.size) for data, own in zip(payloads, counts, strict=True)]
    every = np.concatenate(counts)
    block = LaneBlock(
        tables=tuple(tables),
        classes=_lane_classes(classes, every),
        symbol_counts=every,
        word_offsets=_edges(np.concatenate([item.word_counts for item in unpacked])),
        words=np.concatenate([item.words for item in unpacked]),
        escape_counts=np.zeros(every.size, np.int64),
        escape_offsets=np.zeros(every.size + 1, np.int64),
        escapes=memoryview(b""),
    )
    lanes = np.arange(every.size)
    plan = plan_codes(block.tables)
    if plan.code_dtype is not np.uint8 or plan.value_dtype is None or plan.marker is None or plan.marker > 127:
        raise CorruptFile(f"{_WHAT}: the tables reach beyond 126, or have no escape")
    values = lanes_numba.decode(block, lanes, plan, threads)
    minima = np.array([table.minimum for table in tables], np.int64)
    maxima = np.array([table.maximum for table in tables], np.int64)
    result: list[list[DecodedSymbols]] = []
    position = 0
    for row, payload in zip(shapes, unpacked, strict=True):
        end = position + sum(int(np.prod(shape)) for shape in row)
        own = values[position:end]
        places = np.flatnonzero(own == plan.marker)
        if places.size != payload.escape_count:
            raise CorruptFile(f"{_WHAT}: {places.size} symbols escape, {payload.escape_count} escapes are stored")
        numbers = classes[position:end][places]
        stored = unpack_escapes(payload.escapes, payload.escape_count, _WHAT)
        escaped = values_of_codes(stored, minima[numbers], maxima[numbers])
        result.append(_split(own, plan.marker, places, escaped, row))
        position = end
    return result


def _split(
    values: NDArray[Any],
    marker: int,
    places: NDArray[np.int64],
    escaped: NDArray[np.int64],
    shapes: Sequence[tuple[int, ...]],
) -> list[DecodedSymbols]:
    """The parts of a layer."""
    found = []
    start = 0
    for shape in shapes:
        stop = start + int(np.prod(shape))
        own = slice(*np.searchsorted(places, [start, stop]).tolist())
        codes = values[start:stop].reshape(shape)
        found.append(DecodedSymbols(codes=codes, marker=marker, places=places[own] - start, escaped=escaped[own]))
        start = stop
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payload:
    word_counts: NDArray[np.int64]
    escape_count: int
    words: NDArray[np.uint32]
    escapes: memoryview


def _lane_counts(shape: tuple[int, ...]) -> list[int]:
    """Symbols per lane: whole tokens, about :data:`LANE_SYMBOLS`."""
    tokens, per_token = shape[0], int(np.prod(shape[1:]))
    lanes = max(1, min(tokens, round(tokens * per_token / LANE_SYMBOLS)))
    edges = [tokens * lane // lanes for lane in range(lanes + 1)]
    return [per_token * (b - a) for a, b in pairwise(edges)]


def _pack(words: NDArray[np.uint32], sizes: NDArray[np.int64], escapes: NDArray[np.int64]) -> bytes:
    head = bytearray()
    append_varint(head, sizes.size)
    append_packed(head, sizes)
    append_varint(head, escapes.size)
    return b"".join([head, words.astype("<u4", copy=False).tobytes(), pack_escapes(escapes)])


def _unpack(data: bytes, lanes: int) -> _Payload:
    stored, position = read_varint(data, 0, _WHAT)
    if stored != lanes:
        raise CorruptFile(f"{_WHAT}: {stored} lanes stored, the layer table asks for {lanes}")
    word_counts, position = read_packed(data, position, lanes, f"{_WHAT}, word counts")
    escape_count, position = read_varint(data, position, f"{_WHAT}, escapes")
    word_bytes = 4 * int(np.minimum(word_counts, len(data)).sum())
    if position + word_bytes > len(data):
        raise CorruptFile(f"{_WHAT}: {word_bytes} bytes of words promised, {len(data) - position} are left")
    return _Payload(
        word_counts=word_counts,
        escape_count=escape_count,
        words=np.frombuffer(data, "<u4", word_bytes // 4, position),
        escapes=memoryview(data)[position + word_bytes :],
    )


def _lane_classes(numbers: NDArray[np.uint16], counts: NDArray[np.int64]) -> LaneClasses:
    return LaneClasses(numbers=numbers, offsets=np.cumsum(counts) - counts, group_size=1)


def _edges(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
