"""A cache that fills while its file arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...formats.tensors import Tensor
    from .cache import Cache
    from .decoding import LayerRange

__all__ = ["CacheStream", "DecodedLayer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedLayer:
    """Tokens ``start`` to ``stop`` (counted from the first decoded one) of one layer.

    ``parts`` maps the roles of the layer (``key`` and ``value``, or ``latent`` and ``rope_key``) to arrays
    [heads, tokens, width], which are views into the cache being filled.
    """

    layer: int
    start: int
    stop: int
    parts: Mapping[str, Tensor]


class CacheStream:
    """Iterate to decode: yields a :class:`DecodedLayer` as soon as its bytes have come.

    Layers come in order within each token chunk. ``cache`` is complete when the iteration has ended; until then the
    arrays of what has not come yet are undefined.
    """

    def __init__(self, cache: Cache, ranges: Iterator[LayerRange]) -> None:
        self.cache = cache
        self._ranges = ranges

    def __iter__(self) -> Iterator[DecodedLayer]:
        for done in self._ranges:
            row = self.cache.table.layers[done.layer]
            own = slice(done.start - row.first_token, done.stop - row.first_token)
            parts: dict[str, Tensor] = {}
            for part in row.parts:
                tensor = self.cache.parts[done.layer, part.role]
                parts[part.role] = type(tensor)(dtype=tensor.dtype, data=tensor.data[:, own])
            yield DecodedLayer(layer=done.layer, start=done.start, stop=done.stop, parts=parts)

    def finish(self) -> Cache:
        """Decode whatever is left and return the cache."""
        for _ in self._ranges:
            pass
        return self.cache
