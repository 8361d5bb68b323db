"""Look-up tables from which lanes are decoded without searching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .frequency_table import PRECISION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable

__all__ = ["BUCKETS", "BUCKET_BITS", "aligned_entries", "all_aligned"]

BUCKET_BITS = 12
BUCKETS = 1 << BUCKET_BITS


def all_aligned(tables: Sequence[FrequencyTable]) -> bool:
    """Whether every frequency is a multiple of ``2**12``."""
    return all(table.alignment >= PRECISION - BUCKET_BITS for table in tables)


def aligned_entries(
    tables: Sequence[FrequencyTable], codes: Sequence[NDArray[Any]], code_bits: int
) -> NDArray[np.int64]:
    """[tables * 4096] entries, one for each multiple of ``2**12`` of the quantile.

    From the low end: the code of the slot (``code_bits``), the offset in the slot divided by
    ``2**12`` (12 bits), the slot's frequency divided by ``2**12`` (13 bits).
    """
    entries = np.empty((len(tables), BUCKETS), np.int64)
    for row, table, table_codes in zip(entries, tables, codes, strict=True):
        frequencies = table.frequencies.astype(np.int64) >> BUCKET_BITS
        slots = np.repeat(np.arange(table.slots), frequencies)
        offsets = np.arange(BUCKETS) - (table.cumulative.astype(np.int64) >> BUCKET_BITS)[slots]
        high = frequencies[slots] << (code_bits + BUCKET_BITS)
        row[:] = high | offsets << code_bits | table_codes[slots]
    return entries.ravel()
