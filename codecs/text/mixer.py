"""Logistic mixing in 32-bit integers: weight sets selected by context, and a final mixer over them.

Weights are 16.16 fixed point and bounded to +-8, inputs and outputs are stretched probabilities in
[-2047, 2047]; with at most 256 inputs every partial sum fits 32 bits (2^19 * 2^11 / 2^8 * 2^8 < 2^31).
Unsigned indices spare the test for negative ones.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["dot", "train"]


@njit(nogil=True, inline="always")
def dot(weights, row, inputs, count):  # type: ignore[no-untyped-def]
    """Weighted sum of ``count`` inputs with the weights from ``row`` on, clipped to the stretch range."""
    total = np.int32(0)
    first = np.uint64(row)
    for z in range(np.uint64(count)):
        total = np.int32(total + np.int32(np.int32(weights[first + z] * inputs[z]) >> 8))
    return min(2047, max(-2047, np.int64(total) >> 8))


@njit(nogil=True, inline="always")
def train(weights, row, inputs, count, step):  # type: ignore[no-untyped-def]
    """Gradient step: ``step`` is the scaled coding error, |step| < 2^19; rounds to nearest."""
    step = np.int32(step)
    first = np.uint64(row)
    for z in range(np.uint64(count)):
        change = np.int32(np.int32(np.int32(inputs[z] * step) + np.int32(512)) >> 10)
        moved = np.int32(weights[first + z] + change)
        weights[first + z] = min(np.int32(524287), max(np.int32(-524288), moved))
