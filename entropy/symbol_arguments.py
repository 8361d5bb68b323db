"""What callers pass to the symbol coders, checked and brought into one form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import InvalidParameter
from .frequency_table import PRECISION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from .frequency_table import FrequencyTable

__all__ = ["as_integers", "frequency_rows", "only_table", "positions_by_table", "table_numbers"]

_MIN_TOTAL_BITS = 8


def only_table(tables: Sequence[FrequencyTable]) -> FrequencyTable:
    """The single table of ``tables``; more than one would need an index."""
    if len(tables) != 1:
        raise InvalidParameter(f"{len(tables)} tables need a table_index")
    return tables[0]


def as_integers(values: ArrayLike, what: str) -> NDArray[np.int64]:
    """``values`` as contiguous int64 of the same shape; anything but integers is refused."""
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise InvalidParameter(f"{what} must be integers, got {array.dtype}")
    if array.dtype == np.uint64 and int(array.max()) >= 1 << 63:
        raise InvalidParameter(f"{what} must be below 2**63")
    return np.ascontiguousarray(array, np.int64)


def table_numbers(table_index: ArrayLike, count: int) -> NDArray[np.int64]:
    """``table_index`` as int64, each entry naming one of ``count`` tables."""
    index = as_integers(table_index, "table_index")
    if index.size and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise InvalidParameter(f"table_index holds {int(index.min())}..{int(index.max())}, there are {count} tables")
    return index


def positions_by_table(index: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Tables in ascending order, each with the positions that use it, in ascending order."""
    order = np.argsort(index, kind="stable")
    numbers, starts = np.unique(index[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=False))


def frequency_rows(frequencies: ArrayLike) -> NDArray[Any]:
    """``frequencies`` as integers [count, slots] >= 1, every row with the same total ``2**k``, 8 <= k <= 24."""
    rows = np.asarray(frequencies)
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.shape[1] == 0:
        raise InvalidParameter(f"frequencies must be integers [count, slots], got {rows.dtype} {rows.shape}")
    if len(rows) == 0:
        return rows
    totals = rows.sum(axis=1, dtype=np.int64)
    total = int(totals[0])
    if total.bit_count() != 1 or not _MIN_TOTAL_BITS <= total.bit_length() - 1 <= PRECISION:
        raise InvalidParameter(f"row 0 sums to {total}, not to 2**8 .. 2**{PRECISION}")
    if (totals != total).any() or int(rows.min()) < 1:
        raise InvalidParameter(f"every row must hold integers >= 1 that sum to {total}")
    return rows
