"""Files with one chunk for every layer of every range of tokens: their order, read whole or in part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...formats.errors import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.reader import ContainerReader
    from .cache import CacheTable
    from .decoding import CacheRange

__all__ = ["LayerChunks", "Place"]

Place = tuple[int, int, int]
"""Layer, first and last token."""


class LayerChunks:
    """Chunks of type ``kind``; there may be one of type ``before`` ahead of them, whose place is None."""

    def __init__(self, table: CacheTable, chunk_tokens: int, kind: str, before: str | None = None) -> None:
        self._table = table
        self._chunk_tokens = chunk_tokens
        self._kind = kind
        self._before = before

    def places(self) -> Iterator[Place]:
        """The place of every chunk in file order."""
        for start in range(0, self._table.tokens, self._chunk_tokens):
            stop = min(start + self._chunk_tokens, self._table.tokens)
            for layer, row in enumerate(self._table.layers):
                if row.first_token < stop:
                    yield layer, start, stop

    def read(self, source: ContainerReader, wanted: CacheRange, *, whole: bool) -> Iterator[tuple[Place | None, bytes]]:
        """Every place with its payload: of the whole file as it arrives, or of what ``wanted`` needs."""
        return self._all(source) if whole else self._some(source, wanted)

    def _all(self, source: ContainerReader) -> Iterator[tuple[Place | None, bytes]]:
        expected = self.places()
        begun = False
        for chunk in source.chunks():
            if not chunk.type[0].isupper():
                continue
            if chunk.type == self._before and not begun:
                yield None, chunk.payload
                continue
            begun = True
            place = next(expected, None)
            if place is None or chunk.type != self._kind or chunk.span not in (None, place):
                raise CorruptFile(
                    f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, expected {self._kind} {place or 'no more'}"
                )
            yield place, chunk.payload
        missing = next(expected, None)
        if missing is not None:
            raise CorruptFile(f"the file ends before layer {missing[0]} of tokens {missing[1]} to {missing[2]}")

    def _some(self, source: ContainerReader, wanted: CacheRange) -> Iterator[tuple[Place | None, bytes]]:
        by_place: dict[Any, Any] = {(entry.type, entry.span): entry for entry in source.index()}
        before = by_place.get((self._before, ()))
        if before is not None:
            yield None, source.read(before)
        for place in self.places():
            layer, start, stop = place
            inside = wanted.layers[0] <= layer < wanted.layers[1]
            if inside and start < wanted.tokens[1] and stop > wanted.tokens[0]:
                entry = by_place.get((self._kind, place))
                if entry is None:
                    raise CorruptFile(f"the index has no chunk of layer {layer}, tokens {start} to {stop}")
                yield place, source.read(entry)
