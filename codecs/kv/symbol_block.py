"""The lanes of a token chunk: independent ANS streams whose classes the reader derives and the file need not hold.

One payload per layer: lane word counts, escape counts and sizes (frame-of-reference packed), words, escapes. Lanes
are whole token ranges of one part after the other. All layers of a chunk are coded in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.escapes import pack_escapes
from ...entropy.lane_block import LaneBlock, LaneClasses
from ...entropy.lane_codes import plan_codes, values_of_block
from ...entropy.lane_slots import slots_of_values
from ...entropy.packed_integers import append_packed, read_packed
from ...formats.errors import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ...entropy.frequency_table import FrequencyTable

__all__ = ["LANE_SYMBOLS", "SymbolArray", "decode_payloads", "encode_payloads"]

LANE_SYMBOLS = 24_576


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolArray:
    """Symbols [tokens, ...] of one part, or None while unknown, and the class of each, uint16 of the same shape."""

    classes: NDArray[np.uint16]
    symbols: NDArray[Any] | None = None

    def lane_counts(self) -> list[int]:
        """Symbols per lane: whole tokens, about :data:`LANE_SYMBOLS`."""
        tokens = self.classes.shape[0]
        per_token = self.classes.size // tokens
        lanes = max(1, min(tokens, round(self.classes.size / LANE_SYMBOLS)))
        edges = [tokens * lane // lanes for lane in range(lanes + 1)]
        return [per_token * (b - a) for a, b in pairwise(edges)]


def encode_payloads(layers: Sequence[Sequence[SymbolArray]], tables: Sequence[FrequencyTable]) -> list[bytes]:
    """One payload per layer, for :func:`decode_payloads` with the same classes and tables."""
    from ...entropy import lanes_numba  # compiles or loads native code

    encoder = lanes_numba.prepare_encoder(tables)
    payloads = []
    for parts in layers:
        counts = np.array([count for part in parts for count in part.lane_counts()], np.int64)
        classes = _classes(parts, counts)
        values = np.concatenate([_known(part).ravel() for part in parts])
        slots, escapes = slots_of_values(values, counts, classes, tuple(tables))
        words, sizes = encoder(slots, counts, classes)
        payloads.append(_pack(words, sizes, escapes))
    return payloads


def decode_payloads(
    payloads: Sequence[bytes],
    layers: Sequence[Sequence[SymbolArray]],
    tables: Sequence[FrequencyTable],
    *,
    threads: int,
) -> list[list[NDArray[Any]]]:
    """The symbols of every part of every layer, int8 where no value escaped, else int64.

    Raises :class:`CorruptFile` naming the lane whose words do not end with its symbols.
    """
    from ...entropy import lanes_numba

    counts = [np.array([count for part in parts for count in part.lane_counts()], np.int64) for parts in layers]
    unpacked = [_unpack(data, own.size) for data, own in zip(payloads, counts, strict=True)]
    every = np.concatenate(counts)
    parts = [part for row in layers for part in row]
    escape_sizes = np.concatenate([item.escape_sizes for item in unpacked])
    block = LaneBlock(
        tables=tuple(tables),
        classes=_classes(parts, every),
        symbol_counts=every,
        word_offsets=_edges(np.concatenate([item.word_counts for item in unpacked])),
        words=np.concatenate([item.words for item in unpacked]),
        escape_counts=np.concatenate([item.escape_counts for item in unpacked]),
        escape_offsets=_edges(escape_sizes),
        escapes=memoryview(b"".join(item.escapes for item in unpacked)),
    )
    lanes = np.arange(every.size)
    plan = plan_codes(block.tables)
    codes = lanes_numba.decode(block, lanes, plan, threads)
    values = values_of_block(block, lanes, codes, plan)
    result: list[list[NDArray[Any]]] = []
    position = 0
    for row in layers:
        found = []
        for part in row:
            found.append(values[position : position + part.classes.size].reshape(part.classes.shape))
            position += part.classes.size
        result.append(found)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payload:
    word_counts: NDArray[np.int64]
    escape_counts: NDArray[np.int64]
    escape_sizes: NDArray[np.int64]
    words: NDArray[np.uint32]
    escapes: memoryview


def _pack(words: NDArray[np.uint32], sizes: NDArray[np.int64], escapes: Mapping[int, NDArray[np.int64]]) -> bytes:
    lanes = range(sizes.size)
    sections = [pack_escapes(escapes[lane]) if lane in escapes else b"" for lane in lanes]
    counts = np.array([escapes[lane].size if lane in escapes else 0 for lane in lanes], np.int64)
    head = bytearray()
    append_varint(head, sizes.size)
    append_packed(head, sizes)
    append_packed(head, counts)
    if counts.any():
        append_packed(head, np.array([len(section) for section in sections], np.int64))
    return b"".join([head, words.astype("<u4", copy=False).tobytes(), *sections])


def _unpack(data: bytes, lanes: int) -> _Payload:
    what = "cache lanes"
    stored, position = read_varint(data, 0, what)
    if stored != lanes:
        raise CorruptFile(f"{what}: {stored} lanes stored, the layer table asks for {lanes}")
    word_counts, position = read_packed(data, position, lanes, f"{what}, word counts")
    escape_counts, position = read_packed(data, position, lanes, f"{what}, escape counts")
    escape_sizes = np.zeros(lanes, np.int64)
    if escape_counts.any():
        escape_sizes, position = read_packed(data, position, lanes, f"{what}, escape sizes")
    word_bytes = 4 * int(np.minimum(word_counts, len(data)).sum())
    escape_bytes = int(np.minimum(escape_sizes, len(data)).sum())
    if position + word_bytes + escape_bytes != len(data):
        raise CorruptFile(
            f"{what}: {word_bytes} bytes of words and {escape_bytes} of escapes do not fill the "
            f"{len(data) - position} bytes that follow"
        )
    return _Payload(
        word_counts=word_counts,
        escape_counts=escape_counts,
        escape_sizes=escape_sizes,
        words=np.frombuffer(data, "<u4", word_bytes // 4, position),
        escapes=memoryview(data)[position + word_bytes :],
    )


def _classes(parts: Sequence[SymbolArray], counts: NDArray[np.int64]) -> LaneClasses:
    numbers = np.concatenate([part.classes.ravel() for part in parts])
    return LaneClasses(numbers=numbers, offsets=np.cumsum(counts) - counts, group_size=1)


def _known(part: SymbolArray) -> NDArray[Any]:
    if part.symbols is None:
        raise ValueError("encoding needs symbols")
    return part.symbols


def _edges(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
