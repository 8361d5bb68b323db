"""Frequency tables of the codes: dimensions whose codes are distributed alike share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...entropy import FrequencyTable
from . import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NARROW_BITS", "WIDE_BITS", "SymbolTables", "count_symbols", "fit_tables", "table_of"]

NARROW_BITS, WIDE_BITS = 12, 16
"""Resolution of the tables of whole codes, and of exponents, of which most never occur.

Decoders look 12-bit tables up at twice the speed, for half a percent of the bytes; but every exponent that never occurs
would take a 4,096th there.
"""
_ROUNDS = 4
_LEAST_SYMBOLS = 4096  # of a class: fewer do not pay for a table

SymbolTables = tuple["tuple[FrequencyTable, ...]", "NDArray[np.int64]"]


def count_symbols(lanes: NDArray[np.uint8], alphabet: int) -> NDArray[np.int64]:
    """How often each symbol occurs in each of ``lanes`` [d, n]: int64 [d, alphabet]."""
    counts = np.zeros((len(lanes), alphabet), np.int64)
    kernels.count_codes(lanes, counts)
    return counts


def fit_tables(counts: NDArray[np.int64], most: int, bits: int) -> SymbolTables:
    """At most ``most`` tables of ``bits`` and the table of each dimension, from ``counts`` [d, alphabet].

    Dimensions are sorted by the entropy of their codes, cut into equal classes, and then moved to whichever table codes
    them in the fewest bits, as k-means moves points.
    """
    dimensions = len(counts)
    classes = max(1, min(most, dimensions, int(counts.sum()) // _LEAST_SYMBOLS))
    smoothed = counts + 1 / counts.shape[1]
    shares = smoothed / smoothed.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log2(shares)).sum(axis=1)
    numbers = np.empty(dimensions, np.int64)
    numbers[np.argsort(entropy, kind="stable")] = np.arange(dimensions) * classes // dimensions
    for _ in range(_ROUNDS):
        sums = np.stack([smoothed[numbers == number].sum(axis=0) for number in range(classes)])
        lengths = -np.log2(np.maximum(sums / sums.sum(axis=1, keepdims=True), 2.0**-bits))
        costs = counts @ lengths.T  # [d, classes]
        numbers = costs.argmin(axis=1)
        used, numbers = np.unique(numbers, return_inverse=True)
        classes = len(used)
    tables = tuple(table_of(counts[numbers == number].sum(axis=0), bits) for number in range(classes))
    return tables, numbers.astype(np.int64)


def table_of(counts: NDArray[np.int64], bits: int) -> FrequencyTable:
    """The table of one histogram; what was never seen keeps the least frequency."""
    return FrequencyTable.from_counts(counts, bits=bits)
