"""MiKV's precision stage: important tokens in many bits, all others kept in few.

Yang et al., "No Token Left Behind: Reliable KV Cache Compression via Importance-Aware Mixed Precision Quantization"
(arXiv 2402.18096). Section 3.1: tokens that other methods would evict stay, in low precision. Section 3.2: channels of
keys are balanced before they are quantised per token, ``b = sqrt(max |q| / max |k|)`` for each channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = ["BALANCE_PER_OCTAVE", "MAX_BALANCE", "balance_factors", "important_tokens", "key_balance"]

BALANCE_PER_OCTAVE = 4
MAX_BALANCE = 160


def important_tokens(mass: Floats, percent: int) -> Integers:
    """The tokens with the largest ``mass`` [tokens], ``percent`` of them, ascending."""
    count = round(percent / 100 * mass.size)
    chosen: Integers = np.sort(np.argsort(-mass, kind="stable")[:count])
    return chosen


def key_balance(heads: Sequence[Floats], query_peaks: Floats | None) -> Integers:
    """Balancers of channels in quarter octaves, int64 [heads, width].

    ``heads`` are keys [tokens, width]; ``query_peaks`` [heads, width] the largest query magnitudes, 1 where unknown.
    """
    peaks = np.stack([np.abs(keys).max(axis=0) for keys in heads]).astype(np.float64)
    queries = np.ones_like(peaks) if query_peaks is None else query_peaks
    ratio = np.maximum(queries, 2.0**-30) / np.maximum(peaks, 2.0**-30)
    exponents = np.rint(BALANCE_PER_OCTAVE * np.log2(ratio) / 2)
    balance: Integers = np.clip(exponents, -MAX_BALANCE, MAX_BALANCE).astype(np.int64)
    return balance


def balance_factors(balance: Integers) -> Floats:
    """What keys are multiplied with, float32 of the same shape."""
    factors: Floats = np.exp2(balance / BALANCE_PER_OCTAVE).astype(np.float32)
    return factors
