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
from .waves import part_shapes, symbol_count, token_spans
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
        layers = [(chunk, layer, payload) for chunk in chunks for layer, payload in chunk.waiting.items()]
        sizes = [symbol_count(chunk.shapes(layer)) for chunk, layer, _ in layers]
        ends = np.cumsum(sizes).tolist()
        classes = np.empty(sum(sizes), np.uint16)
        codes = np.empty(sum(sizes), np.uint8)

        def decode_symbols(first: int, last: int) -> list[_LayerSymbols]:
            found = []
            for (chunk, layer, payload), size, end in zip(
                layers[first:last], sizes[first:last], ends[first:last], strict=True
            ):
                own = slice(end - size, end)
                found.append(self._layer_symbols(chunk, layer, payload, classes[own], codes[own]))
            return found

        singles = [(n, n + 1) for n in range(len(layers))]
        symbols = [item for found in in_threads(decode_symbols, singles, self._threads) for item in found]
        jobs = [(chunk, block) for chunk in chunks if chunk.waiting for block in chunk.blocks]

        def decode_blocks(first: int, last: int) -> None:
            for chunk, block in jobs[first:last]:
                for item in symbols:
                    if item.chunk is chunk:
                        self._decode_block(block, item)

        with one_blas_thread():
            in_threads(decode_blocks, [(n, n + 1) for n in range(len(jobs))], self._threads)
        for chunk in chunks:
            chunk.clear()
        return [(layer, *chunk.span) for chunk, layer, _ in layers]

    def _layer_symbols(
        self, chunk: TokenChunk, layer: int, payload: bytes, classes: NDArray[np.uint16], codes: NDArray[np.uint8]
    ) -> _LayerSymbols:
        shapes = chunk.shapes(layer)
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
        self.waiting_symbols = 0

    def wait(self, layer: int, payload: bytes) -> None:
        """Keep the payload of ``layer`` for :meth:`Decoder.decode`."""
        self.waiting[layer] = payload
        self.waiting_symbols += symbol_count(self.shapes(layer))

    def clear(self) -> None:
        """Nothing waits any more."""
        self.waiting.clear()
        self.waiting_symbols = 0

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
