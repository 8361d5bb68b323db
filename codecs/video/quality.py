"""Peak signal-to-noise ratio of decoded frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LOSSLESS_DB", "frame_psnr_db"]

LOSSLESS_DB = 100.0
"""What a frame without any error counts as, so that means stay finite."""


def frame_psnr_db(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """PSNR in dB of one uint8 RGB frame [H, W, 3] over all its samples, with peak 255."""
    difference = original.astype(np.int64) - decoded
    mean_square = int((difference * difference).sum()) / difference.size
    if mean_square == 0:
        return LOSSLESS_DB
    return min(LOSSLESS_DB, 10 * math.log10(255**2 / mean_square))
