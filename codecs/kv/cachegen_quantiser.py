"""CacheGen's quantisers: anchors and deltas as the paper has them, and per-token maxima as its published code has them.

Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving" (SIGCOMM 2024),
section 5.2. Parts are float32 [tokens, channels], all heads side by side, after RoPE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Symbols = NDArray[np.int32]

__all__ = [
    "GROUP_TOKENS",
    "delta_step",
    "dequantise_deltas",
    "dequantise_maxima",
    "peaks_from_bytes",
    "peaks_to_bytes",
    "quantise_deltas",
    "quantise_maxima",
]

GROUP_TOKENS = 10
_ANCHOR_PEAK = 127
_BINS_BY_THIRD = (0.5, 1.0, 1.5)


def delta_step(layer: int, layers: int, level: float) -> float:
    """The delta bin of a layer in standard deviations: 0.5, 1 and 1.5 by thirds of the layers, times ``level``."""
    return level * _BINS_BY_THIRD[min(3 * layer // layers, 2)]


def quantise_deltas(values: Floats, step: float) -> tuple[Symbols, Symbols, Floats]:
    """Anchors int [groups, channels], deltas int [tokens - groups, channels], anchor peaks float32 [groups].

    The first token of each group of ten is the anchor, in 8 bits with its largest magnitude as scale; the others are
    differences to the decoded anchor in bins of ``step``. Peaks are rounded up to bfloat16, in which they are stored.
    """
    from .cachegen_loops import quantise_groups

    anchors = values[::GROUP_TOKENS]
    peaks = _round_up(np.abs(anchors).max(axis=1))
    scales = peaks / np.float32(_ANCHOR_PEAK)
    quantised = np.round(anchors / _divisor(scales)[:, None]).astype(np.int32)
    deltas = np.empty((len(values) - len(anchors), values.shape[1]), np.int32)
    quantise_groups(values, quantised, scales, np.float32(step), GROUP_TOKENS, deltas)
    return quantised, deltas, peaks


def dequantise_deltas(anchors: Symbols, deltas: Symbols, peaks: Floats, step: float, values: Floats) -> None:
    """Invert :func:`quantise_deltas`, into ``values`` [heads, tokens, width], C-contiguous."""
    from .cachegen_loops import restore_deltas

    scales = (peaks / np.float32(_ANCHOR_PEAK)).astype(np.float32)
    restore_deltas(anchors, deltas, scales, np.float32(step), GROUP_TOKENS, values)


def quantise_maxima(values: Floats, bins: int) -> tuple[Symbols, Floats]:
    """Symbols within ``bins // 2 - 1`` of zero and one peak per token: what the published code does instead of deltas.

    A token that is all zero has peak and symbols zero.
    """
    peaks = _round_up(np.abs(values).max(axis=1))
    scales = peaks / np.float32(bins // 2 - 1)
    symbols = np.round(values / _divisor(scales)[:, None])
    return symbols.astype(np.int32), peaks


def dequantise_maxima(symbols: Symbols, peaks: Floats, bins: int, values: Floats) -> None:
    """Invert :func:`quantise_maxima`, into ``values`` [heads, tokens, width], C-contiguous."""
    from .cachegen_loops import restore_maxima

    restore_maxima(symbols, (peaks / np.float32(bins // 2 - 1)).astype(np.float32), values)


def peaks_to_bytes(peaks: Floats) -> bytes:
    """bfloat16, little-endian."""
    return (np.ascontiguousarray(peaks).view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()


def peaks_from_bytes(data: bytes, position: int, count: int) -> Floats:
    """Invert :func:`peaks_to_bytes`."""
    stored = np.frombuffer(data, "<u2", count, position)
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _divisor(scales: Floats) -> Floats:
    return np.where(scales > 0, scales, np.float32(1))


def _round_up(values: Floats) -> Floats:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)
