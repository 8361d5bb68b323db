"""The chunks of a cache file in order: all of them as they arrive, or those that a range needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile
from .encoding import LAYER_CHUNK, MODEL_CHUNK, WEIGHT_CHUNK
from .waves import token_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.chunk import Chunk
    from ...formats.reader import ContainerReader
    from .cache import CacheTable
    from .decoding import CacheRange

__all__ = ["all_chunks", "some_chunks"]


def all_chunks(
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


def some_chunks(
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
        spans = token_spans(table, start, stop)
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
        for layer, (a, b) in enumerate(token_spans(table, start, stop)):
            if a < b:
                yield LAYER_CHUNK, (layer, start, stop)
    while True:
        yield None


def _span_agrees(chunk: Chunk, expected: tuple[int, ...]) -> bool:
    # a pipe cannot be read ahead, so its chunks come without their spans
    return chunk.span is None or tuple(chunk.span) == expected
