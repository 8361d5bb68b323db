"""How much of a cache is coded at once: enough to keep every core busy, and a bounded amount of memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .cache import CacheTable

__all__ = ["WAVE_SYMBOLS", "part_shapes", "symbol_count", "token_spans", "waves_of_layers"]

WAVE_SYMBOLS = 1 << 21


def token_spans(table: CacheTable, start: int, stop: int) -> list[tuple[int, int]]:
    """Of a range of tokens those of every layer, counted from the layer's first."""
    return [(max(start - row.first_token, 0), max(stop - row.first_token, 0)) for row in table.layers]


def part_shapes(table: CacheTable, layer: int, spans: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """[tokens, heads, width] of every part of ``layer`` in a token chunk of those ``spans``."""
    first, last = spans[layer]
    return [(last - first, part.heads, part.width) for part in table.layers[layer].parts]


def symbol_count(shapes: Sequence[tuple[int, ...]]) -> int:
    """The symbols of arrays of ``shapes``."""
    return sum(math.prod(shape) for shape in shapes)


def waves_of_layers(table: CacheTable, spans: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """The layers of a token chunk that have tokens in it, in order, near :data:`WAVE_SYMBOLS` symbols at a time."""
    wave: list[int] = []
    symbols = 0
    for layer in range(len(table.layers)):
        own = symbol_count(part_shapes(table, layer, spans))
        if own == 0:
            continue
        if wave and symbols + own > WAVE_SYMBOLS:
            yield wave
            wave, symbols = [], 0
        wave.append(layer)
        symbols += own
    if wave:
        yield wave
