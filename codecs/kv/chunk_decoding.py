"""Decoding the layers of token chunks: symbols layer by layer, then coefficients block by block, on all cores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.lane_threads import in_threads
from .blas_threads import one_blas_thread
from .closed_loop import ClosedLoop, blocks_of
from .placement import place
from .quantisation import reconstruct
from .symbols import fill_classes
from .waves import WAVE_SYMBOLS, part_shapes, symbol_count, token_spans
from .weight_stream import decode_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .cache import Cache, CacheTable
    from .decoding import CacheRange
    from .placement import Turns
    from .symbol_block import DecodedSymbols, SymbolDecoder

__all__ = ["Decoder", "TokenChunk"]


class Decoder:
    """Decodes token chunks under one model into ``result``; ``turns`` are those of the wanted tokens."""

    def __init__(
        self,
        table: CacheTable,
        wanted: CacheRange,
        model: Any,
        quality: int,
        turns: Turns | None,
        result: Cache,
        threads: int,
    ) -> None:
        self._table = table
        self._wanted = wanted
        self._model = model
        self._quality = quality
        self._turns = turns
        self._result = result
        self._threads = threads
        self._symbols: SymbolDecoder = model.decoder
        self._values = reconstruct(model.model.shifts, self._symbols.marker)

    def begin(self, span: tuple[int, ...], weights: bytes) -> TokenChunk:
        """The token chunk of ``span`` with its payload of token weights."""
        spans = token_spans(self._table, *span)
        shapes = [(row.parts[0].heads, b - a) for row, (a, b) in zip(self._table.layers, spans, strict=True)]
        found = decode_weights(weights, shapes, self._model.weights)
        blocks = []
        for start, stop in blocks_of(*span):
            own = token_spans(self._table, start, stop)
            rows = [w[:, a - s : b - s] for w, (a, b), (s, _) in zip(found, own, spans, strict=True)]
            blocks.append(_Block(spans=own, loop=ClosedLoop(self._model.model, self._values, self._quality, rows)))
        return TokenChunk(self._table, span, spans, found, blocks)

    def decode(self, chunks: Sequence[TokenChunk]) -> list[tuple[int, int, int]]:
        """Decode what waits in ``chunks``; return layer, first and last token of each."""
        waiting = [chunk for chunk in chunks if chunk.waiting]
        singles = [(n, n + 1) for n in range(len(waiting))]

        def decode_chunks(first: int, last: int) -> None:
            for chunk in waiting[first:last]:
                for layer, payload in chunk.waiting.items():
                    item = self._layer_symbols(chunk, layer, payload)
                    for block in chunk.blocks:
                        self._decode_block(block, item)

        with one_blas_thread():
            if len(waiting) >= self._threads:
                in_threads(decode_chunks, singles, self._threads)
            else:
                self._decode_together(waiting)
        done = [(layer, *chunk.span) for chunk in waiting for layer in chunk.waiting]
        for chunk in waiting:
            chunk.waiting.clear()
        return done

    def _decode_together(self, chunks: Sequence[TokenChunk]) -> None:
        """Share the layers and blocks of few chunks among many threads, a bounded number of symbols at a time."""
        layers = [(chunk, layer, payload) for chunk in chunks for layer, payload in chunk.waiting.items()]
        layers.sort(key=lambda item: item[1])
        wave: list[tuple[TokenChunk, int, bytes]] = []
        symbols = 0
        for item in layers:
            wave.append(item)
            symbols += symbol_count(item[0].shapes(item[1]))
            if symbols >= WAVE_SYMBOLS:
                self._decode_wave(wave)
                wave, symbols = [], 0
        self._decode_wave(wave)

    def _decode_wave(self, layers: Sequence[tuple[TokenChunk, int, bytes]]) -> None:
        def decode_symbols(first: int, last: int) -> list[_LayerSymbols]:
            return [self._layer_symbols(*item) for item in layers[first:last]]

        singles = [(n, n + 1) for n in range(len(layers))]
        symbols = [item for found in in_threads(decode_symbols, singles, self._threads) for item in found]
        chunks = list(dict.fromkeys(chunk for chunk, _, _ in layers))
        blocks = [(chunk, block) for chunk in chunks for block in chunk.blocks]

        def decode_blocks(first: int, last: int) -> None:
            for chunk, block in blocks[first:last]:
                for item in symbols:
                    if item.chunk is chunk:
                        self._decode_block(block, item)

        in_threads(decode_blocks, [(n, n + 1) for n in range(len(blocks))], self._threads)

    def _layer_symbols(self, chunk: TokenChunk, layer: int, payload: bytes) -> _LayerSymbols:
        shapes = chunk.shapes(layer)
        size = symbol_count(shapes)
        classes, codes = np.empty(size, np.uint16), np.empty(size, np.uint8)
        edges = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        views = [own.reshape(shape) for own, shape in zip(np.split(classes, edges), shapes, strict=True)]
        for part, own in zip(self._model.model.parts[layer], views, strict=True):
            fill_classes(part.scales, chunk.weights[layer], self._quality, own)
        return _LayerSymbols(
            chunk=chunk, layer=layer, classes=views, parts=self._symbols.decode(payload, shapes, classes, codes)
        )

    def _decode_block(self, block: _Block, item: _LayerSymbols) -> None:
        layer = item.layer
        first, last = block.spans[layer]
        if first == last:
            return
        row = self._table.layers[layer]
        offset = item.chunk.spans[layer][0]
        # of the block's tokens those that are wanted, counted from the cache's first
        begin = max(row.first_token + first, self._wanted.tokens[0])
        end = min(row.first_token + last, self._wanted.tokens[1])
        for part, (symbols, classes) in enumerate(zip(item.parts, item.classes, strict=True)):
            values = block.loop.decode(layer, part, symbols, classes, (first - offset, last - offset))
            if layer < self._wanted.layers[0] or begin >= end:
                continue
            skipped = begin - row.first_token - first
            if end - begin < last - first:
                values = np.ascontiguousarray(values[:, skipped : skipped + end - begin])
            self._store(values, layer, part, begin, end)

    def _store(self, values: NDArray[np.float32], layer: int, part: int, begin: int, end: int) -> None:
        """Put a part [heads, tokens, width] of tokens ``begin`` to ``end`` where it belongs."""
        first = self._wanted.tokens[0]
        number = layer - self._wanted.layers[0]
        spec = self._table.layers[layer].parts[part]
        turns = None if self._turns is None or not spec.rotated else self._turns.rows(begin - first, end - first)
        place(
            values,
            self._model.model.parts[layer][part].mean,
            turns,
            spec.dtype,
            self._result.parts[number, spec.role].data,
            begin - first - self._result.table.layers[number].first_token,
        )


class TokenChunk:
    """A token chunk; ``waiting`` holds the payloads of layers that have not been decoded yet.

    ``spans`` are its tokens in every layer, counted from the layer's first, and ``weights`` theirs.
    """

    def __init__(
        self,
        table: CacheTable,
        span: tuple[int, ...],
        spans: list[tuple[int, int]],
        weights: list[NDArray[np.int8]],
        blocks: list[_Block],
    ) -> None:
        self._table = table
        self.span = (span[0], span[1])
        self.spans = spans
        self.weights = weights
        self.blocks = blocks
        self.waiting: dict[int, bytes] = {}

    def shapes(self, layer: int) -> list[tuple[int, ...]]:
        """[tokens, heads, width] of the parts of ``layer``."""
        return part_shapes(self._table, layer, self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A block of tokens: which of every layer, and the loop over its layers."""

    spans: list[tuple[int, int]]
    loop: ClosedLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerSymbols:
    """The symbols of a layer of a token chunk, and their classes, [tokens, heads, width] for each part."""

    chunk: TokenChunk
    layer: int
    classes: list[NDArray[np.uint16]]
    parts: list[DecodedSymbols]
