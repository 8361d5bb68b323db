"""What a stream of tokens looks like to a model that reads it: the measures of arXiv 2404.03626, sections 6 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["divergence_from_uniform", "entropy_bits", "surviving_share"]


def entropy_bits(ids: NDArray[Any]) -> float:
    """Empirical entropy of single ids, in bits per id."""
    _, counts = np.unique(ids, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def divergence_from_uniform(stream: bytes, order: int) -> float:
    """Kullback-Leibler divergence of n-grams of ``order`` bits from uniform, in bits per bit; at most 1.

    N-grams are taken at every position of the bit stream. Short streams look less uniform than they are, by about
    2^order / (2 ln 2 * positions) bits.
    """
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))
    values = np.zeros(len(bits) - order + 1, np.int64)
    for k in range(order):
        values = values << 1 | bits[k : k + len(values)]
    return (order - entropy_bits(values)) / order


def surviving_share(before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]]) -> float:
    """The share of tokens that stay when a prefix is edited: the longest common suffix of each pair of id arrays."""
    kept = total = 0
    for first, second in zip(before, after, strict=True):
        length = min(len(first), len(second))
        same = first[len(first) - length :][::-1] == second[len(second) - length :][::-1]
        kept += length if same.all() else int(np.argmin(same))
        total += len(first)
    return kept / total
