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

__all__ = ["CacheRange", "TokenChunk", "blank_cache", "decode_range"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRange:
    """Half-open ranges of layers and tokens."""

    layers: tuple[int, int]
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChunk:
    """The payloads of one token chunk: weights, and lanes by layer."""

    start: int
    stop: int
    weights: bytes
    layers: dict[int, bytes]


def decode_range(
    source: ContainerReader,
    table: CacheTable,
    wanted: CacheRange,
    *,
    profile: Profile | None,
    quality: int,
    chunk_tokens: int,
    positions: NDArray[np.int64] | None,
    whole: bool,
    context: RunContext,
) -> Cache:
    """Decode ``wanted``; the result's layers and tokens count from the start of the ranges.

    ``positions`` [tokens of the range] places the keys elsewhere; None leaves them where they were. With ``whole`` the
    file is read front to back and verified on the way, otherwise only what the range needs is read.
    """
    result = blank_cache(table, wanted, context)
    model: Any = profile
    first = 0
    if profile is not None and profile.model.reach:
        every = profile.model.intra_every
        first = wanted.layers[0] - wanted.layers[0] % every if every else 0
    else:
        first = wanted.layers[0]
    threads = context.threads or len(os.sched_getaffinity(0))
    chunks = (
        _all_chunks(source, table, chunk_tokens) if whole else _some_chunks(source, table, chunk_tokens, wanted, first)
    )
    for item in chunks:
        if isinstance(item, bytes):
            model = read_model(item, table)
            continue
        if model is None:
            raise CorruptFile(f"the file has no {MODEL_CHUNK} chunk before its first tokens and names no profile")
        _decode_chunk(item, table, wanted, first, model, quality, positions, result, threads)
        context.report("decode", item.stop, table.tokens, unit="tokens")
    return result


def _decode_chunk(
    item: TokenChunk,
    table: CacheTable,
    wanted: CacheRange,
    first: int,
    model: Any,
    quality: int,
    positions: NDArray[np.int64] | None,
    result: Cache,
    threads: int,
) -> None:
    spans = _spans(table, item.start, item.stop)
    shapes = [(row.parts[0].heads, b - a) for row, (a, b) in zip(table.layers, spans, strict=True)]
    weights = decode_weights(item.weights, shapes, model.weights)
    loop = ClosedLoop(model.model, quality, weights)
    needed = [n for n in range(first, wanted.layers[1]) if spans[n][0] < spans[n][1]]
    arrays = [[SymbolArray(classes=own) for own in loop.classes(n)] for n in needed]
    decoded = decode_payloads([item.layers[n] for n in needed], arrays, model.tables, threads=threads)
    for layer, symbols in zip(needed, decoded, strict=True):
        parts = loop.decode(layer, symbols)
        if layer >= wanted.layers[0]:
            _store(parts, layer, item, spans[layer], table, wanted, positions, result)


def _store(
    parts: list[NDArray[np.float32]],
    layer: int,
    item: TokenChunk,
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


def _all_chunks(source: ContainerReader, table: CacheTable, chunk_tokens: int) -> Iterator[TokenChunk | bytes]:
    """The model payload if there is one, then every token chunk, in the only order they may have."""
    expected = _order(table, chunk_tokens)
    current: TokenChunk | None = None
    wanted = next(expected)
    for chunk in source.chunks():
        if chunk.type == MODEL_CHUNK and current is None:
            yield chunk.payload
            continue
        if not chunk.type[0].isupper():
            continue
        if wanted is None or chunk.type != wanted[0] or not _span_agrees(chunk, wanted[1]):
            raise CorruptFile(
                f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, expected "
                f"{'the end' if wanted is None else wanted}; the file is not a whole cache"
            )
        if chunk.type == WEIGHT_CHUNK:
            if current is not None:
                yield current
            start, stop = wanted[1]
            current = TokenChunk(start=start, stop=stop, weights=chunk.payload, layers={})
        elif current is not None:
            current.layers[wanted[1][0]] = chunk.payload
        wanted = next(expected)
    if wanted is not None:
        raise CorruptFile(f"the file ends before {wanted[0]} {wanted[1]}")
    if current is not None:
        yield current


def _some_chunks(
    source: ContainerReader, table: CacheTable, chunk_tokens: int, wanted: CacheRange, first: int
) -> Iterator[TokenChunk | bytes]:
    by_place = {(entry.type, entry.span): entry for entry in source.index()}
    model = by_place.get((MODEL_CHUNK, ()))
    if model is not None:
        yield source.read(model)
    begin = wanted.tokens[0] // chunk_tokens * chunk_tokens
    for start in range(begin, wanted.tokens[1], chunk_tokens):
        stop = min(start + chunk_tokens, table.tokens)
        places: list[tuple[str, tuple[int, ...]]] = [(WEIGHT_CHUNK, (start, stop))]
        spans = _spans(table, start, stop)
        needed = [n for n in range(first, wanted.layers[1]) if spans[n][0] < spans[n][1]]
        places += [(LAYER_CHUNK, (n, start, stop)) for n in needed]
        missing = [place for place in places if place not in by_place]
        if missing:
            raise CorruptFile(f"the index has no chunk {missing[0][0]} {missing[0][1]}")
        payloads = [source.read(by_place[place]) for place in places]
        yield TokenChunk(
            start=start,
            stop=stop,
            weights=payloads[0],
            layers=dict(zip(needed, payloads[1:], strict=True)),
        )


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
