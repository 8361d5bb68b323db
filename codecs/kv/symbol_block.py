"""The lanes of a token chunk: independent ANS streams whose classes the reader derives and the file need not hold.

One payload per layer: number of lanes, their word counts (frame-of-reference packed), number of escapes, words, and
the escapes of all lanes together. Lanes are whole token ranges of one part after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.class_lanes import ClassLaneDecoder, ClassLaneEncoder
from ...entropy.escapes import escape_codes, pack_escapes, values_of_codes
from ...entropy.native_escapes import unpack_escapes
from ...entropy.packed_integers import append_packed, read_packed
from ...formats.errors import CorruptFile
from .quantisation import SlotTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...entropy.frequency_table import FrequencyTable

__all__ = ["LANE_SYMBOLS", "DecodedSymbols", "SymbolDecoder", "SymbolEncoder"]

LANE_SYMBOLS = 24_576
_WHAT = "cache lanes"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedSymbols:
    """The symbols of a part: ``codes`` uint8 [tokens, heads, width], symbols modulo 256 or the marker of an escape.

    ``places`` are the flat positions of the escapes, ascending, and ``escaped`` their symbols.
    """

    codes: NDArray[np.uint8]
    places: NDArray[np.int64]
    escaped: NDArray[np.int64]

    def escapes_of(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places, counted from token ``first``, and symbols of the escapes of a range of tokens."""
        per_token = self.codes[:1].size
        a, b = np.searchsorted(self.places, [first * per_token, last * per_token]).tolist()
        return self.places[a:b] - first * per_token, self.escaped[a:b]


class SymbolEncoder:
    """Encodes symbols under ``tables``; one is made for a whole cache, and any number of threads may use it."""

    def __init__(self, tables: Sequence[FrequencyTable]) -> None:
        self._lanes = ClassLaneEncoder(tables)
        self.slots = SlotTables.of(tables, self._lanes.stride, self._lanes.costs(tables))
        self._maxima = np.array([table.maximum for table in tables], np.int64)

    def encode(
        self,
        entries: NDArray[np.uint16],
        shapes: Sequence[tuple[int, ...]],
        places: NDArray[np.int64],
        symbols: NDArray[np.int32],
    ) -> tuple[bytes, float]:
        """The payload of a layer and the bits of its escapes.

        ``entries`` are those of all its parts, of ``shapes`` [tokens, heads, width], one after the other; ``symbols``
        are those that escape and ``places`` where.
        """
        counts = np.array([count for shape in shapes for count in _lane_counts(shape)], np.int64)
        words, sizes = self._lanes.encode(entries, counts)
        numbers = entries[places] // self.slots.stride
        codes = escape_codes(
            symbols.astype(np.int64), self.slots.minima[numbers].astype(np.int64), self._maxima[numbers]
        )
        return _pack(words, sizes, codes), float((2 * np.floor(np.log2(codes + 1)) + 1).sum())


class SymbolDecoder:
    """Decodes symbols under ``tables``; one is made for a whole cache, and any number of threads may use it."""

    def __init__(self, tables: Sequence[FrequencyTable]) -> None:
        self._lanes = ClassLaneDecoder(tables)
        self.marker = self._lanes.marker
        self._minima = np.array([table.minimum for table in tables], np.int64)
        self._maxima = np.array([table.maximum for table in tables], np.int64)

    def decode(
        self, payload: bytes, shapes: Sequence[tuple[int, ...]], classes: NDArray[np.uint16], codes: NDArray[np.uint8]
    ) -> list[DecodedSymbols]:
        """The symbols of every part of a layer, in the memory of ``codes``.

        ``classes`` and ``codes`` are those of all parts, of ``shapes`` [tokens, heads, width], one after the other.
        Raises :class:`CorruptFile` naming the lane whose words do not end with its symbols.
        """
        counts = np.array([count for shape in shapes for count in _lane_counts(shape)], np.int64)
        own = _unpack(payload, counts.size)
        self._lanes.decode(own.words, own.word_counts, counts, classes, codes)
        places = np.flatnonzero(codes == self.marker)
        if places.size != own.escape_count:
            raise CorruptFile(f"{_WHAT}: {places.size} symbols escape, {own.escape_count} escapes are stored")
        numbers = classes[places]
        stored = unpack_escapes(own.escapes, own.escape_count, _WHAT)
        escaped = values_of_codes(stored, self._minima[numbers], self._maxima[numbers])
        found = []
        start = 0
        for shape in shapes:
            stop = start + math.prod(shape)
            chosen = slice(*np.searchsorted(places, [start, stop]).tolist())
            found.append(
                DecodedSymbols(
                    codes=codes[start:stop].reshape(shape), places=places[chosen] - start, escaped=escaped[chosen]
                )
            )
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
    tokens, per_token = shape[0], math.prod(shape[1:])
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
        # copied, because they hardly ever begin at a multiple of four
        words=np.frombuffer(data, "<u4", word_bytes // 4, position).astype(np.uint32),
        escapes=memoryview(data)[position + word_bytes :],
    )
