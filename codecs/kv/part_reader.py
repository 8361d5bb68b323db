"""Reading the parts of a cache for coding: float32 before RoPE, checked for values that are not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .number_formats import check_finite, to_float32
from .part_loops import load_bfloat16, load_float16, load_float32
from .placement import Turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...formats.tensors import Tensor
    from .cache import Cache

__all__ = ["PartReader"]


class PartReader:
    """Parts of ``cache``; any number of threads may read. With ``rotated`` keys stay as they are, after RoPE."""

    def __init__(self, cache: Cache, *, rotated: bool = False) -> None:
        table = cache.table
        self._cache = cache
        self._turns: Turns | None = None
        if table.rotary is not None and not rotated:
            self._turns = Turns.from_positions(table.rotary, table.first_position + np.arange(table.tokens))

    def read(self, layer: int, part: int, start: int, stop: int) -> NDArray[np.float32]:
        """float32 [heads, tokens, width] of tokens ``start`` to ``stop`` of the layer's own.

        Raises :class:`InvalidParameter` naming layer, part, head, token and channel of a value that is not finite.
        """
        row = self._cache.table.layers[layer]
        spec = row.parts[part]
        values = np.empty((spec.heads, stop - start, spec.width), np.float32)
        self.fill(layer, part, start, values)
        return values

    def fill(self, layer: int, part: int, start: int, values: NDArray[np.float32]) -> None:
        """As :meth:`read`, into ``values`` [heads, tokens, width], C-contiguous."""
        row = self._cache.table.layers[layer]
        spec = row.parts[part]
        stop = start + values.shape[1]
        tensor = self._cache.parts[layer, spec.role]
        if not _load(tensor, start, values):
            piece = type(tensor)(dtype=tensor.dtype, data=tensor.data[:, start:stop])
            check_finite(to_float32(piece), f"layer {layer} {spec.role}", first_token=row.first_token + start)
        if self._turns is not None and spec.rotated:
            self._turns.rows(row.first_token + start, row.first_token + stop).apply(values)


def _load(tensor: Tensor, start: int, values: NDArray[np.float32]) -> bool:
    """Convert tokens from ``start`` on; return whether all of them are finite."""
    data: NDArray[Any] = tensor.data
    if not data.flags.c_contiguous:
        data, start = np.ascontiguousarray(data[:, start : start + values.shape[1]]), 0
    data = data.view({"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}[tensor.dtype])
    data.flags.writeable = False  # so that the loops are compiled for one type only
    bits = values.view(np.uint32)
    if tensor.dtype == "BF16":
        return bool(load_bfloat16(data, start, bits))
    if tensor.dtype == "F16":
        return bool(load_float16(data, start, bits, values))
    return bool(load_float32(data, start, bits))
