"""Quantised tensors as bytes: their bounds, one integer frequency table, one stream of symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.frequency_table import FrequencyTable
from ...entropy.streams import decode_symbols, encode_symbols
from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile
from .quantiser import WHOLE, QuantisedTensor, bound_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["joined_symbols", "joined_tensors", "pack_bounds", "pack_tensors", "unpack_bounds", "unpack_tensors"]

Bounds = tuple[int, "NDArray[np.floating[Any]]", "NDArray[np.floating[Any]]"]
"""Axis, minimum and scale of a tensor."""

_WHOLE_BYTE = 255


def pack_tensors(tensors: Sequence[QuantisedTensor]) -> bytes:
    """Per tensor its axis and bounds; then the table of all symbols and the symbols, tensor after tensor."""
    symbols = joined_symbols(tensors)
    low = int(symbols.min())
    table = FrequencyTable.from_counts(np.bincount(symbols - low), minimum=low)
    return pack_bounds(tensors) + table.to_bytes() + encode_symbols(symbols, [table])


def unpack_tensors(payload: bytes, shapes: Sequence[tuple[int, ...]], *, bits: int, what: str) -> list[QuantisedTensor]:
    """Read tensors of known ``shapes``; ``what`` names the chunk in errors.

    Raises :class:`CorruptFile` when the payload is not exactly such tensors.
    """
    bounds, position = unpack_bounds(payload, shapes, what=what)
    table, position = read_table(payload, position)
    if table.escape or table.minimum < 0 or table.maximum >= 1 << bits:
        raise CorruptFile(f"{what}: its table covers {table.minimum}..{table.maximum}, not values of {bits} bits")
    count = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
    return joined_tensors(decode_symbols(payload[position:], [table], count=count), bounds, shapes)


def pack_bounds(tensors: Sequence[QuantisedTensor]) -> bytes:
    """Axis, minima and scales of each tensor."""
    out = bytearray()
    for tensor in tensors:
        kind = _bound_type(tensor.axis)
        out.append(_WHOLE_BYTE if tensor.axis == WHOLE else tensor.axis)
        out += tensor.minimum.astype(kind).tobytes()
        out += tensor.scale.astype(kind).tobytes()
    return bytes(out)


def unpack_bounds(payload: bytes, shapes: Sequence[tuple[int, ...]], *, what: str) -> tuple[list[Bounds], int]:
    """Axis, minima and scales of each tensor, and the position after them; raises :class:`CorruptFile`."""
    bounds = []
    position = 0
    for shape in shapes:
        axis, minimum, scale, position = _read_bounds(payload, position, shape, what)
        bounds.append((axis, minimum, scale))
    return bounds, position


def joined_symbols(tensors: Sequence[QuantisedTensor]) -> NDArray[np.int64]:
    """The symbols of all tensors, one after another in C order."""
    symbols: NDArray[np.int64] = np.concatenate([tensor.symbols.ravel() for tensor in tensors]).astype(np.int64)
    return symbols


def joined_tensors(
    symbols: NDArray[np.int64], bounds: Sequence[Bounds], shapes: Sequence[tuple[int, ...]]
) -> list[QuantisedTensor]:
    """The tensors of :func:`joined_symbols` and their bounds."""
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
    pieces = np.split(symbols.astype(np.uint8), np.cumsum(sizes)[:-1])
    return [
        QuantisedTensor(symbols=piece.reshape(shape), axis=axis, minimum=minimum, scale=scale)
        for piece, shape, (axis, minimum, scale) in zip(pieces, shapes, bounds, strict=True)
    ]


def _read_bounds(
    payload: bytes, position: int, shape: tuple[int, ...], what: str
) -> tuple[int, NDArray[np.floating[Any]], NDArray[np.floating[Any]], int]:
    if position >= len(payload):
        raise CorruptFile(f"{what}: it ends at byte {position}, before all bounds were read")
    axis = WHOLE if payload[position] == _WHOLE_BYTE else payload[position]
    if axis >= len(shape):
        raise CorruptFile(f"{what}: byte {position} names axis {axis} of a tensor with {len(shape)}")
    position += 1
    kind, reduced = _bound_type(axis), bound_shape(shape, axis)
    count = int(np.prod(reduced, dtype=np.int64))
    end = position + 2 * count * kind.itemsize
    if end > len(payload):
        raise CorruptFile(f"{what}: it ends inside the bounds at byte {position}")
    values = np.frombuffer(payload, kind, 2 * count, position)
    if not np.isfinite(values).all():
        raise CorruptFile(f"{what}: the bounds at byte {position} are not finite")
    minimum, scale = values[:count].reshape(reduced), values[count:].reshape(reduced)
    return axis, minimum, scale, end


def _bound_type(axis: int) -> np.dtype[np.floating[Any]]:
    return np.dtype("<f4") if axis == WHOLE else np.dtype("<f2")
