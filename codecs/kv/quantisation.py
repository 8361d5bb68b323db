# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""Quantising coefficients around their predictions, and putting them back; compiled loops.

Encoder and decoder share the reconstruction, so that both follow the same closed loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...entropy.native_compilation import compiled
from ...formats.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dequantise", "quantise", "reconstruction_values"]

_MAX_SYMBOL = 1 << 30


def quantise(
    coefficients: NDArray[np.float32],
    predictions: NDArray[np.float32],
    classes: NDArray[np.uint16],
    steps: NDArray[np.float32],
    shifts: NDArray[np.float32],
    symbols: NDArray[np.int32],
) -> None:
    """Fill ``symbols`` and turn ``predictions`` into reconstructions, in place.

    ``coefficients``, ``predictions``, ``classes``, ``symbols`` are [tokens, heads, width]; ``steps`` [heads, tokens];
    ``shifts`` [classes, 4]. Raises :class:`InvalidParameter` where a symbol would not fit 31 bits.
    """
    largest = _quantise(coefficients, predictions, classes, steps, shifts, symbols)
    if not largest < _MAX_SYMBOL:
        raise InvalidParameter(
            f"a value is {largest:.1e} quantisation steps from its prediction; lower the quality, or use kv-lossless"
        )


@compiled
def _quantise(coefficients, predictions, classes, steps, shifts, symbols):
    tokens, heads, width = coefficients.shape
    largest = np.float32(0.0)
    for token in range(tokens):
        for head in range(heads):
            step = steps[head, token]
            inverse = np.float32(1.0) / step
            for channel in range(width):
                error = coefficients[token, head, channel] - predictions[token, head, channel]
                symbol = np.rint(error * inverse)
                magnitude = abs(symbol)
                largest = max(largest, magnitude)
                symbols[token, head, channel] = np.int32(symbol)
                if magnitude > 0:
                    shift = shifts[classes[token, head, channel], int(min(magnitude, np.float32(3.0)))]
                    value = magnitude - shift
                    if symbol < 0:
                        value = -value
                    predictions[token, head, channel] += value * step
    return largest


def reconstruction_values(shifts: NDArray[np.float32]) -> NDArray[np.float32]:
    """What symbol ``s`` of a class stands for, in steps, at [class, s & 255]; ``shifts`` are [classes, 4]."""
    symbols = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
    magnitudes = np.abs(symbols)
    values: NDArray[np.float32] = magnitudes - shifts[:, np.minimum(magnitudes, 3).astype(np.int64)]
    values = np.where(symbols < 0, -values, values)
    values[:, 0] = 0
    return values


@compiled
def dequantise(codes, marker, escaped, next_escape, classes, steps, values, shifts, predictions):
    """Turn ``predictions`` [tokens, heads, width] into reconstructions, in place.

    ``codes`` uint8 are symbols modulo 256, or ``marker`` where the symbol is the next of ``escaped``, from number
    ``next_escape`` on. ``values`` are those of :func:`reconstruction_values`.
    """
    tokens, heads, width = codes.shape
    for token in range(tokens):
        for head in range(heads):
            step = steps[head, token]
            for channel in range(width):
                code, number = codes[token, head, channel], classes[token, head, channel]
                value = values[number, code]
                if code == marker:
                    symbol = np.float32(escaped[next_escape])
                    next_escape += 1
                    magnitude = abs(symbol)
                    value = magnitude - shifts[number, int(min(magnitude, np.float32(3.0)))]
                    if symbol < 0:
                        value = -value
                predictions[token, head, channel] += value * step
