"""CacheGen's chunks: of a layer and range of tokens the peaks, then the lanes of anchors and deltas of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import CorruptFile
from .cachegen_loops import fill_entries, whole_symbols
from .cachegen_quantiser import (
    GROUP_TOKENS,
    dequantise_deltas,
    dequantise_maxima,
    peaks_from_bytes,
    peaks_to_bytes,
    quantise_deltas,
    quantise_maxima,
)
from .symbol_block import SymbolDecoder, SymbolEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from .cache import PartTable
    from .cachegen_tables import CacheGenTables, ChannelTables, PartTables
    from .symbol_block import DecodedSymbols

    Floats = NDArray[np.float32]

__all__ = ["ChunkDecoder", "ChunkEncoder"]


class ChunkEncoder:
    """Encodes under ``tables``; any number of threads may use it."""

    def __init__(self, tables: CacheGenTables) -> None:
        self._tables = tables
        self._symbols = SymbolEncoder(tables.tables)

    def encode(self, first_part: int, parts: Iterable[Floats]) -> tuple[bytes, float]:
        """The payload of a layer and its ideal bits; ``parts`` are float32 [tokens, channels].

        ``first_part`` is the number of its first part, counted through all layers.
        """
        out = bytearray()
        blocks: list[tuple[NDArray[np.int32], ChannelTables]] = []
        for own, values in zip(self._tables.parts[first_part:], parts, strict=False):
            if own.anchors is not None:
                anchors, others, peaks = quantise_deltas(values, own.step)
                blocks.append((anchors, own.anchors))
            else:
                others, peaks = quantise_maxima(values, int(own.step))
            blocks.append((others, own.others))
            out += peaks_to_bytes(peaks)
            del values  # the next part takes as much memory
        entries = np.empty(sum(symbols.size for symbols, _ in blocks), np.uint16)
        places, escaped = np.empty(entries.size, np.int64), np.empty(entries.size, np.int32)
        first = found = 0
        ideal_bits = 8.0 * len(out)
        slots = self._symbols.slots
        for symbols, channels in blocks:
            count, bits = fill_entries(
                symbols,
                channels.centres,
                channels.classes,
                slots.minima,
                slots.sizes,
                np.uint64(slots.stride),
                slots.costs,
                entries[first : first + symbols.size].reshape(symbols.shape),
                places[found:],
                escaped[found:],
            )
            places[found : found + count] += first
            ideal_bits += bits
            found += count
            first += symbols.size
        shapes = [symbols.shape for symbols, _ in blocks]
        payload, bits = self._symbols.encode(entries, shapes, places[:found], escaped[:found])
        return bytes(out) + payload, ideal_bits + bits


class ChunkDecoder:
    """Decodes under ``tables``; any number of threads may use it."""

    def __init__(self, tables: CacheGenTables) -> None:
        self._tables = tables
        self._symbols = SymbolDecoder(tables.tables)

    def decode(self, data: bytes, first_part: int, parts: Sequence[PartTable], tokens: int, where: str) -> list[Floats]:
        """The parts of a layer, float32 [heads, tokens, width]; raises :class:`CorruptFile` naming ``where``."""
        blocks: list[_Block] = []
        position = 0
        own_tables = self._tables.parts[first_part : first_part + len(parts)]
        all_peaks = []
        for own, part in zip(own_tables, parts, strict=True):
            groups = tokens if own.anchors is None else -(-tokens // GROUP_TOKENS)
            if position + 2 * groups > len(data):
                raise CorruptFile(f"{where} {part.role}: the data end inside its peaks")
            peaks = peaks_from_bytes(data, position, groups)
            if not np.isfinite(peaks).all():
                raise CorruptFile(f"{where} {part.role}: a peak is not finite")
            position += 2 * groups
            all_peaks.append(peaks)
            if own.anchors is not None:
                blocks.append(_Block(channels=own.anchors, samples=groups))
            blocks.append(_Block(channels=own.others, samples=tokens if own.anchors is None else tokens - groups))
        found = iter(self._decode_blocks(data[position:], blocks, where))
        result = []
        for own, part, peaks in zip(own_tables, parts, all_peaks, strict=True):
            values = np.empty((part.heads, tokens, part.width), np.float32)
            _dequantise(own, next(found) if own.anchors is not None else None, next(found), peaks, values)
            result.append(values)
        return result

    def _decode_blocks(self, data: bytes, blocks: Sequence[_Block], where: str) -> list[NDArray[np.int32]]:
        shapes = [block.shape for block in blocks]
        classes = np.concatenate([np.resize(b.channels.classes, b.shape).ravel() for b in blocks]).astype(np.uint16)
        codes = np.empty(classes.size, np.uint8)
        decoded = self._symbols.decode(data, shapes, classes, codes)
        return [_whole(symbols, block, where) for symbols, block in zip(decoded, blocks, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    channels: ChannelTables
    samples: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.samples, self.channels.classes.size


def _whole(symbols: DecodedSymbols, block: _Block, where: str) -> NDArray[np.int32]:
    """int32 [samples, channels], escapes and centres put back."""
    if np.abs(symbols.escaped).max(initial=0) >= 1 << 30:
        raise CorruptFile(f"{where}: a symbol is out of range")
    result = np.empty(block.shape, np.int32)
    whole_symbols(symbols.codes, block.channels.centres, symbols.places, symbols.escaped, result)
    return result


def _dequantise(
    own: PartTables, anchors: NDArray[np.int32] | None, others: NDArray[np.int32], peaks: Floats, values: Floats
) -> None:
    if anchors is None:
        dequantise_maxima(others, peaks, int(own.step), values)
    else:
        dequantise_deltas(anchors, others, peaks, own.step, values)
