"""From the payload of a layer to its place in a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..number_formats import from_float32_clipped
from .layer_bytes import decode_layer
from .layer_heads import read_layer_heads
from .token_layout import head_layout

if TYPE_CHECKING:
    from ..cache import Cache, CacheTable
    from .plan import StagesParams

__all__ = ["store_layer"]


def store_layer(
    data: bytes, plan: StagesParams, table: CacheTable, layer: int, number: int, result: Cache, threads: int
) -> None:
    """Decode ``layer`` of a file with ``table`` into layer ``number`` of ``result``; raises :class:`CorruptFile`.

    A head with fewer slots than ``result`` leaves the last ones zero, with a count of 0.
    """
    row = table.layers[layer]
    what = f"layer {layer}"
    tokens = table.tokens - row.first_token
    heads, position = read_layer_heads(data, plan, row.parts, tokens, result.table.tokens, what)
    important = heads.important or (None,) * len(heads.positions)
    layouts = [head_layout(plan, n, own) for n, own in zip(heads.slots, important, strict=True)]
    decoded = decode_layer(data, position, plan, row.parts, layouts, heads.balance, what, threads)
    for part, values in zip(row.parts, decoded, strict=True):
        target = result.parts[number, part.role].data
        for head, own in enumerate(values):
            target[head, : len(own)] = from_float32_clipped(own, part.dtype).data
            target[head, len(own) :] = 0
    if result.slots is not None:
        first = table.first_position + row.first_token
        for head, (positions, counts) in enumerate(zip(heads.positions, heads.counts, strict=True)):
            result.slots.positions[number][head, : positions.size] = first + positions
            result.slots.counts[number][head, : counts.size] = counts
