"""How far a decoded picture is from its original."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["psnr_db"]

_ROWS = 256


def psnr_db(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float | None:
    """Peak signal-to-noise ratio over all sub-pixels in dB, two digits; None where the two are equal."""
    error = 0
    for top in range(0, len(original), _ROWS):
        difference = original[top : top + _ROWS].astype(np.int32) - decoded[top : top + _ROWS]
        error += int(np.square(difference).sum(dtype=np.int64))
    return None if error == 0 else round(10 * math.log10(255**2 * original.size / error), 2)
