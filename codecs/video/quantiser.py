"""The published quantiser of HNeRV: uniform between minimum and maximum, per tensor or along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WHOLE", "QuantisedTensor", "bound_shape", "dequantise", "quantise"]

WHOLE = -1
_LARGEST_SHARE = 0.02  # bounds along an axis are tried where they are fewer than this share of the values


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedTensor:
    """``minimum + scale * symbols``; the bounds have length 1 along ``axis`` (float16), or are scalars (float32)."""

    symbols: NDArray[np.uint8]
    axis: int
    minimum: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]]


def quantise(values: NDArray[np.float32], bits: int) -> QuantisedTensor:
    """Quantise to ``bits`` bits with whichever bounds give the smallest mean absolute error.

    Bounds are those of the whole tensor or, stored as float16, those along one axis. As published, except that a
    constant row gets symbol 0 where the published code divides by zero.
    """
    candidates = [WHOLE]
    candidates += [
        axis for axis in range(values.ndim) if _bounds_count(values.shape, axis) < _LARGEST_SHARE * values.size
    ]
    best: QuantisedTensor | None = None
    best_error = np.inf
    for axis in candidates:
        candidate = _quantise_along(values, bits, axis)
        error = float(np.abs(values - dequantise(candidate)).mean(dtype=np.float64))
        if error < best_error or best is None:
            best, best_error = candidate, error
    if best is None:
        raise RuntimeError("the whole tensor is always a candidate")
    return best


def dequantise(tensor: QuantisedTensor) -> NDArray[np.float32]:
    """float32 values; one product and one sum each, so every machine gives the same."""
    product = tensor.scale.astype(np.float32) * tensor.symbols.astype(np.float32)
    result: NDArray[np.float32] = tensor.minimum.astype(np.float32) + product
    return result


def bound_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape of minimum and scale for values of ``shape``."""
    if axis == WHOLE:
        return ()
    return tuple(1 if number == axis else length for number, length in enumerate(shape))


def _quantise_along(values: NDArray[np.float32], bits: int, axis: int) -> QuantisedTensor:
    levels = 2**bits - 1
    if axis == WHOLE:
        low, high = values.min(), values.max()
        minimum = np.asarray(low, np.float32)
        scale = np.asarray((high - low) / np.float32(levels), np.float32)
    else:
        low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
        with np.errstate(over="ignore"):
            minimum = low.astype(np.float16)
            scale = ((high - low) / np.float32(levels)).astype(np.float16)
        if not (np.isfinite(minimum).all() and np.isfinite(scale).all()):
            return _quantise_along(values, bits, WHOLE)
    step = scale.astype(np.float32)
    offsets = values - minimum.astype(np.float32)
    positions = np.divide(offsets, step, out=np.zeros_like(values), where=step > 0)
    symbols = np.clip(np.rint(positions), 0, levels).astype(np.uint8)
    return QuantisedTensor(symbols=symbols, axis=axis, minimum=minimum, scale=scale)


def _bounds_count(shape: tuple[int, ...], axis: int) -> int:
    return int(np.prod(bound_shape(shape, axis), dtype=np.int64))
