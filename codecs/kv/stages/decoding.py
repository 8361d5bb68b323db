"""From the payload of a layer to its place in a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..number_formats import from_float32
from .layer_bytes import decode_layer
from .token_layout import head_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import Cache, LayerTable
    from .plan import StagesParams

__all__ = ["store_layer"]

_LARGEST = {"F16": 65504.0, "BF16": 3.0e38, "F32": 3.0e38}


def store_layer(
    data: bytes, plan: StagesParams, row: LayerTable, layer: int, number: int, result: Cache, threads: int
) -> None:
    """Decode ``layer`` of a file into layer ``number`` of ``result``; raises :class:`CorruptFile`."""
    tokens = result.parts[number, row.parts[0].role].data.shape[1]
    layouts = [head_layout(plan, tokens)] * row.parts[0].heads
    decoded = decode_layer(data, plan, row.parts, layouts, f"layer {layer}", threads)
    for part, heads in zip(row.parts, decoded, strict=True):
        result.parts[number, part.role].data[...] = _stored(np.stack(heads), part.dtype)


def _stored(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """As the cache's type; what quantisation pushed beyond its range is put back to the end of it."""
    return from_float32(np.clip(values, -_LARGEST[dtype], _LARGEST[dtype]), dtype).data
