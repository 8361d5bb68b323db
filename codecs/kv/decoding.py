"""Reading a cache: whole files front to back, or just the chunks that a range of layers and tokens needs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.lane_threads import in_threads
from ...formats.errors import CorruptFile
from ...formats.safetensors_file import DTYPES, Tensor
from .blas_threads import one_blas_thread
from .cache import Cache, CacheTable
from .closed_loop import ClosedLoop, blocks_of
from .encoding import LAYER_CHUNK, MODEL_CHUNK, WEIGHT_CHUNK
from .placement import Turns, place
from .self_model import read_model
from .symbol_block import decode_payloads
from .symbols import fill_classes
from .weight_stream import decode_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.chunk import Chunk
    from ...formats.reader import ContainerReader
    from ..run_context import RunContext
    from .profile import Profile
    from .symbol_block import DecodedSymbols

__all__ = ["CacheRange", "LayerRange", "blank_cache", "decode_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRange:
    """Half-open ranges of layers and tokens."""

    layers: tuple[int, int]
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRange:
    """Tokens ``start`` to ``stop`` of one layer; in a layer with a window those before its first token are missing."""

    layer: int
    start: int
    stop: int


def decode_layers(
    source: ContainerReader,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    *,
    profile: Profile | None,
    quality: int,
    chunk_tokens: int,
    positions: NDArray[np.int64] | None,
    whole: bool,
    at_once: bool,
    context: RunContext,
) -> Iterator[LayerRange]:
    """Fill ``result`` with ``wanted`` as the file arrives; yield every range of it that is final, counted like it.

    ``positions`` [tokens of the range] places the keys elsewhere; None leaves them where they were. With ``whole`` the
    file is read front to back and verified on the way, otherwise only what the range needs is read. Each layer of a
    token chunk is decoded as soon as it is there; ``at_once`` waits for all of them, which keeps more threads busy.
    """
    model: Any = profile
    first = wanted.layers[0]
    if profile is not None and profile.model.reach:
        every = profile.model.intra_every
        first = first - first % every if every else 0
    turns: Turns | None = None
    if table.rotary is not None:
        if positions is None:
            positions = table.first_position + np.arange(*wanted.tokens)
        turns = Turns.to_positions(table.rotary, positions)
    threads = context.threads or len(os.sched_getaffinity(0))
    arriving = (
        _all_chunks(source, table, chunk_tokens) if whole else _some_chunks(source, table, chunk_tokens, wanted, first)
    )
    chunk: _TokenChunk | None = None
    for kind, span, payload in arriving:
        if kind == MODEL_CHUNK:
            model = read_model(payload, table)
            continue
        if kind == WEIGHT_CHUNK:
            if model is None:
                raise CorruptFile(f"the file has no {MODEL_CHUNK} chunk before its first tokens and names no profile")
            if chunk is not None:
                yield from chunk.decode_waiting()
            context.report("decode", span[0], table.tokens, unit="tokens")
            chunk = _TokenChunk(span, payload, table, wanted, model, quality, turns, result, threads)
        elif chunk is not None:
            chunk.waiting[span[0]] = payload
            if not at_once:
                yield from chunk.decode_waiting()
    if chunk is not None:
        yield from chunk.decode_waiting()
    context.report("decode", wanted.tokens[1], table.tokens, unit="tokens")


class _TokenChunk:
    """Decodes the layers of one token chunk, in order; ``waiting`` holds payloads that have not been decoded yet."""

    def __init__(
        self,
        span: tuple[int, ...],
        weights: bytes,
        table: CacheTable,
        wanted: CacheRange,
        model: Any,
        quality: int,
        turns: Turns | None,
        result: Cache,
        threads: int,
    ) -> None:
        self.waiting: dict[int, bytes] = {}
        self._start, self._stop = span
        self._table = table
        self._wanted = wanted
        self._model = model
        self._quality = quality
        self._turns = turns
        self._result = result
        self._threads = threads
        self._spans = _spans(table, *span)
        shapes = [(row.parts[0].heads, b - a) for row, (a, b) in zip(table.layers, self._spans, strict=True)]
        self._weights = decode_weights(weights, shapes, model.weights)
        self._blocks = [_Block(model.model, quality, self._weights, *own) for own in self._token_blocks()]

    def decode_waiting(self) -> Iterator[LayerRange]:
        """Decode what waits and yield the ranges that lie in the wanted ones."""
        layers, payloads = list(self.waiting), list(self.waiting.values())
        self.waiting.clear()
        if not layers:
            return
        shapes = [self._shapes(layer) for layer in layers]
        classes = np.empty(sum(int(np.prod(shape)) for row in shapes for shape in row), np.uint16)
        views = self._fill_classes(layers, shapes, classes)
        symbols = decode_payloads(payloads, shapes, classes, self._model.tables, threads=self._threads)

        def decode_block(first: int, last: int) -> None:
            for block in self._blocks[first:last]:
                for layer, own, numbers in zip(layers, symbols, views, strict=True):
                    self._decode_block(block, layer, own, numbers)

        with one_blas_thread():
            in_threads(decode_block, [(n, n + 1) for n in range(len(self._blocks))], self._threads)
        for layer in layers:
            done = self._done(layer)
            if done is not None:
                yield done

    def _decode_block(
        self, block: _Block, layer: int, symbols: list[DecodedSymbols], classes: list[NDArray[np.uint16]]
    ) -> None:
        first, last = block.spans[layer]
        if first == last:
            return
        offset = self._spans[layer][0]
        parts = block.loop.decode(layer, symbols, classes, (first - offset, last - offset))
        if layer >= self._wanted.layers[0]:
            row = self._table.layers[layer]
            tokens = (row.first_token + first, row.first_token + last)
            _store(parts, self._model, layer, tokens, self._table, self._wanted, self._turns, self._result)

    def _token_blocks(self) -> Iterator[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
        """Of each block the tokens of every layer, counted from the layer's first, and from the chunk's."""
        for start, stop in blocks_of(self._start, self._stop):
            spans = _spans(self._table, start, stop)
            yield spans, [(a - own[0], b - own[0]) for (a, b), own in zip(spans, self._spans, strict=True)]

    def _shapes(self, layer: int) -> list[tuple[int, ...]]:
        first, last = self._spans[layer]
        return [(last - first, part.heads, part.width) for part in self._table.layers[layer].parts]

    def _fill_classes(
        self, layers: list[int], shapes: list[list[tuple[int, ...]]], classes: NDArray[np.uint16]
    ) -> list[list[NDArray[np.uint16]]]:
        sizes = [int(np.prod(shape)) for row in shapes for shape in row]
        pieces = iter(np.split(classes, np.cumsum(sizes)[:-1]))
        views = [[next(pieces).reshape(shape) for shape in row] for row in shapes]

        def fill(first: int, last: int) -> None:
            for layer, row in zip(layers[first:last], views[first:last], strict=True):
                for part, own in zip(self._model.model.parts[layer], row, strict=True):
                    fill_classes(part.scales, self._weights[layer], self._quality, own)

        in_threads(fill, [(n, n + 1) for n in range(len(layers))], self._threads)
        return views

    def _done(self, layer: int) -> LayerRange | None:
        first = self._wanted.tokens[0]
        begin = max(self._start, first, self._table.layers[layer].first_token)
        end = min(self._stop, self._wanted.tokens[1])
        if begin >= end:
            return None
        return LayerRange(layer=layer - self._wanted.layers[0], start=begin - first, stop=end - first)


class _Block:
    """A block of tokens: which of every layer, and the loop over its layers."""

    def __init__(
        self,
        model: Any,
        quality: int,
        weights: list[NDArray[np.int8]],
        spans: list[tuple[int, int]],
        in_chunk: list[tuple[int, int]],
    ) -> None:
        self.spans = spans
        own = [rows[:, a:b] for rows, (a, b) in zip(weights, in_chunk, strict=True)]
        self.loop = ClosedLoop(model, quality, own)


def _store(
    parts: list[NDArray[np.float32]],
    model: Any,
    layer: int,
    tokens: tuple[int, int],
    table: CacheTable,
    wanted: CacheRange,
    turns: Turns | None,
    result: Cache,
) -> None:
    """Cut the wanted tokens out of decoded parts [tokens, heads, width] and put them where they belong."""
    row = table.layers[layer]
    start = max(tokens[0], wanted.tokens[0])
    stop = min(tokens[1], wanted.tokens[1])
    if start >= stop:
        return
    number = layer - wanted.layers[0]
    first = start - wanted.tokens[0] - result.table.layers[number].first_token
    moved = None if turns is None else turns.rows(start - wanted.tokens[0], stop - wanted.tokens[0])
    for spec, values, own in zip(row.parts, parts, model.model.parts[layer], strict=True):
        place(
            values[start - tokens[0] : stop - tokens[0]],
            own.mean,
            moved if spec.rotated else None,
            spec.dtype,
            result.parts[number, spec.role].data[:, first : first + stop - start],
        )


def blank_cache(table: CacheTable, wanted: CacheRange, context: RunContext) -> Cache:
    """A cache of uninitialised arrays for ``wanted``, after checking the limits."""
    tokens = wanted.tokens[1] - wanted.tokens[0]
    layers = []
    for number in range(*wanted.layers):
        row = table.layers[number]
        dropped = max(row.first_token - wanted.tokens[0], 0)
        if dropped >= tokens:
            raise CorruptFile(
                f"layer {number} keeps the tokens from {row.first_token} on; none of them is in the range"
            )
        layers.append(replace(row, first_token=dropped))
    reduced = replace(
        table,
        layers=tuple(layers),
        tokens=tokens,
        first_position=table.first_position + wanted.tokens[0],
    )
    context.limits.check("max_output_bytes", reduced.size_bytes, "the decoded cache")
    context.limits.check("max_memory_bytes", reduced.size_bytes, "the decoded cache")
    parts: dict[tuple[int, str], Tensor] = {
        (number, part.role): Tensor(
            dtype=part.dtype,
            data=np.empty((part.heads, tokens - row.first_token, part.width), DTYPES[part.dtype]),
        )
        for number, row in enumerate(reduced.layers)
        for part in row.parts
    }
    return Cache(table=reduced, parts=parts)


def _spans(table: CacheTable, start: int, stop: int) -> list[tuple[int, int]]:
    return [(max(start - row.first_token, 0), max(stop - row.first_token, 0)) for row in table.layers]


def _all_chunks(
    source: ContainerReader, table: CacheTable, chunk_tokens: int
) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """Type, span and payload of every chunk as it is read, in the only order they may have."""
    expected = _order(table, chunk_tokens)
    wanted = next(expected)
    begun = False
    for chunk in source.chunks():
        if chunk.type == MODEL_CHUNK and not begun:
            yield chunk.type, (), chunk.payload
            continue
        if not chunk.type[0].isupper():
            continue
        if wanted is None or chunk.type != wanted[0] or not _span_agrees(chunk, wanted[1]):
            raise CorruptFile(
                f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, expected "
                f"{'the end' if wanted is None else wanted}; the file is not a whole cache"
            )
        begun = True
        yield *wanted, chunk.payload
        wanted = next(expected)
    if wanted is not None:
        raise CorruptFile(f"the file ends before {wanted[0]} {wanted[1]}")


def _some_chunks(
    source: ContainerReader, table: CacheTable, chunk_tokens: int, wanted: CacheRange, first: int
) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """The same of the chunks that ``wanted`` needs, found through the index."""
    by_place = {(entry.type, entry.span): entry for entry in source.index()}
    model = by_place.get((MODEL_CHUNK, ()))
    if model is not None:
        yield MODEL_CHUNK, (), source.read(model)
    begin = wanted.tokens[0] // chunk_tokens * chunk_tokens
    for start in range(begin, wanted.tokens[1], chunk_tokens):
        stop = min(start + chunk_tokens, table.tokens)
        spans = _spans(table, start, stop)
        places: list[tuple[str, tuple[int, ...]]] = [(WEIGHT_CHUNK, (start, stop))]
        places += [(LAYER_CHUNK, (n, start, stop)) for n in range(first, wanted.layers[1]) if spans[n][0] < spans[n][1]]
        for kind, span in places:
            if (kind, span) not in by_place:
                raise CorruptFile(f"the index has no chunk {kind} {span}")
            yield kind, span, source.read(by_place[kind, span])


def _order(table: CacheTable, chunk_tokens: int) -> Iterator[tuple[str, tuple[int, ...]] | None]:
    for start in range(0, table.tokens, chunk_tokens):
        stop = min(start + chunk_tokens, table.tokens)
        yield WEIGHT_CHUNK, (start, stop)
        for layer, (a, b) in enumerate(_spans(table, start, stop)):
            if a < b:
                yield LAYER_CHUNK, (layer, start, stop)
    while True:
        yield None


def _span_agrees(chunk: Chunk, expected: tuple[int, ...]) -> bool:
    # a pipe cannot be read ahead, so its chunks come without their spans
    return chunk.span is None or tuple(chunk.span) == expected
