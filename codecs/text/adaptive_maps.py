"""Adaptive probabilities: what a cell of a map says now, and how it moves after each bit."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged

__all__ = ["learn"]


@merged
def learn(cells, index, bit, limit, slower, reciprocal):  # type: ignore[no-untyped-def]
    """Move a 22-bit probability with a 10-bit count towards ``bit``, by 1 / (count + ``slower`` + 1.5)."""
    cell = np.int64(cells[index])
    count = cell & 1023
    p = cell >> 10
    p += ((4194303 * bit - p) * np.int64(reciprocal[count + slower])) >> 16
    if count < limit:
        count += 1
    cells[index] = p << 10 | count
