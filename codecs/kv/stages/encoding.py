"""From a cache to the payload of each layer: select, assign precision, quantise, write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..number_formats import check_finite, to_float32
from .layer_bytes import encode_layer
from .token_layout import head_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cache import Cache
    from .plan import StagesParams

__all__ = ["layer_payloads"]


def layer_payloads(cache: Cache, plan: StagesParams) -> Iterator[bytes]:
    """The payload of every layer in turn; raises :class:`InvalidParameter` naming a value that is not finite."""
    for number, row in enumerate(cache.table.layers):
        tokens = cache.table.tokens - row.first_token
        values = []
        for part in row.parts:
            floats = to_float32(cache.parts[number, part.role])
            check_finite(floats, f"layer {number} {part.role}")
            values.append(list(floats))
        layouts = [head_layout(plan, tokens)] * row.parts[0].heads
        yield encode_layer(plan, row.parts, values, layouts)
