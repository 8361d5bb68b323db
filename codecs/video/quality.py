"""Peak signal-to-noise ratio of decoded frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ..run_context import RunContext

__all__ = ["LOSSLESS_DB", "frame_psnr_db", "psnr_of_frames"]

LOSSLESS_DB = 100.0
"""What a frame without any error counts as, so that means stay finite."""


def frame_psnr_db(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """PSNR in dB of one uint8 RGB frame [H, W, 3] over all its samples, with peak 255."""
    difference = original.astype(np.int64) - decoded
    mean_square = int((difference * difference).sum()) / difference.size
    if mean_square == 0:
        return LOSSLESS_DB
    return min(LOSSLESS_DB, 10 * math.log10(255**2 / mean_square))


def psnr_of_frames(
    originals: NDArray[np.uint8], decoded: Iterable[NDArray[np.uint8]], context: RunContext
) -> list[float]:
    """PSNR of every frame of ``originals`` [T, H, W, 3] against ``decoded``, batch by batch in the same order."""
    values: list[float] = []
    for pictures in decoded:
        pairs = zip(originals[len(values) : len(values) + len(pictures)], pictures, strict=True)
        values += [frame_psnr_db(*pair) for pair in pairs]
        context.report("measuring", len(values), len(originals), unit="frames", psnr_db=sum(values) / len(values))
    return values
