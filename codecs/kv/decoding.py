"""Reading a cache: whole files front to back, or just the chunks that a range of layers and tokens needs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import CorruptFile
from ...formats.safetensors_file import DTYPES, Tensor
from .cache import Cache, CacheTable
from .closed_loop import ClosedLoop
from .encoding import LAYER_CHUNK, MODEL_CHUNK, WEIGHT_CHUNK
from .number_formats import from_float32
from .rotary import rotate
from .self_model import read_model
from .symbol_block import SymbolArray, decode_payloads
from .weight_stream import decode_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.chunk import Chunk
    from ...formats.reader import ContainerReader
    from ..run_context import RunContext
    from .profile import Profile

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
            chunk = _TokenChunk(span, payload, table, wanted, model, quality, positions, result, threads)
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
        positions: NDArray[np.int64] | None,
        result: Cache,
        threads: int,
    ) -> None:
        self.waiting: dict[int, bytes] = {}
        self._start, self._stop = span
        self._table = table
        self._wanted = wanted
        self._model = model
        self._positions = positions
        self._result = result
        self._threads = threads
        self._spans = _spans(table, *span)
        shapes = [(row.parts[0].heads, b - a) for row, (a, b) in zip(table.layers, self._spans, strict=True)]
        self._loop = ClosedLoop(model.model, quality, decode_weights(weights, shapes, model.weights))

    def decode_waiting(self) -> Iterator[LayerRange]:
        """Decode what waits and yield the ranges that lie in the wanted ones."""
        layers, payloads = list(self.waiting), list(self.waiting.values())
        self.waiting.clear()
        arrays = [[SymbolArray(classes=own) for own in self._loop.classes(n)] for n in layers]
        if not layers:
            return
        decoded = decode_payloads(payloads, arrays, self._model.tables, threads=self._threads)
        for layer, symbols in zip(layers, decoded, strict=True):
            parts = self._loop.decode(layer, symbols)
            if layer >= self._wanted.layers[0]:
                _store(parts, layer, self._spans[layer], self._table, self._wanted, self._positions, self._result)
                done = self._done(layer)
                if done is not None:
                    yield done

    def _done(self, layer: int) -> LayerRange | None:
        first = self._wanted.tokens[0]
        begin = max(self._start, first, self._table.layers[layer].first_token)
        end = min(self._stop, self._wanted.tokens[1])
        if begin >= end:
            return None
        return LayerRange(layer=layer - self._wanted.layers[0], start=begin - first, stop=end - first)


def _store(
    parts: list[NDArray[np.float32]],
    layer: int,
    span: tuple[int, int],
    table: CacheTable,
    wanted: CacheRange,
    positions: NDArray[np.int64] | None,
    result: Cache,
) -> None:
    """Cut the wanted tokens out of decoded parts [tokens, heads, width] and put them where they belong."""
    row = table.layers[layer]
    own_start = row.first_token + span[0]
    start = max(own_start, wanted.tokens[0])
    stop = min(row.first_token + span[1], wanted.tokens[1])
    if start >= stop:
        return
    number = layer - wanted.layers[0]
    target = result.table.layers[number]
    for spec, values in zip(row.parts, parts, strict=True):
        kept = values[start - own_start : stop - own_start].swapaxes(0, 1)
        if table.rotary is not None and spec.rotated:
            if positions is None:
                places = np.arange(table.first_position + start, table.first_position + stop)
            else:
                places = positions[start - wanted.tokens[0] : stop - wanted.tokens[0]]
            kept = rotate(kept, table.rotary, places)
        first = start - wanted.tokens[0] - target.first_token
        place = result.parts[number, spec.role].data[:, first : first + stop - start]
        place[...] = from_float32(kept, spec.dtype).data


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
        for place in places:
            if place not in by_place:
                raise CorruptFile(f"the index has no chunk {place[0]} {place[1]}")
            yield *place, source.read(by_place[place])


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
