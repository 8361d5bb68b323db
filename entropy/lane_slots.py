"""From the values of lanes to slot numbers and escapes, fast where all tables agree on a range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import InvalidParameter
from .escapes import escape_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable
    from .lane_block import LaneClasses

__all__ = ["slots_of_values"]

LaneEscapes = dict[int, "NDArray[np.int64]"]


def slots_of_values(
    values: NDArray[Any],
    counts: NDArray[np.int64],
    classes: LaneClasses,
    tables: Sequence[FrequencyTable],
) -> tuple[NDArray[Any], LaneEscapes]:
    """Slot numbers of flat ``values`` (uint8 or uint16), and the escape codes of the lanes that have any.

    Raises:
        InvalidParameter: a value lies outside its table and the table has no escape slot.
    """
    dtype = np.uint8 if max(table.slots for table in tables) <= 256 else np.uint16
    ranges = {(table.minimum, table.maximum) for table in tables}
    if values.size == 0:
        return np.zeros(0, dtype), {}
    if len(ranges) == 1:
        minimum, maximum = ranges.pop()
        if minimum <= int(values.min()) and int(values.max()) <= maximum:
            return _subtract(values, minimum, dtype), {}
    return _slots_with_escapes(values, counts, classes, tables, dtype)


def _subtract(values: NDArray[Any], minimum: int, dtype: type[np.integer[Any]]) -> NDArray[Any]:
    if values.dtype.itemsize == np.dtype(dtype).itemsize:
        # Modular arithmetic in the small type is exact, because the result is known to fit.
        modulus = 1 << (8 * values.dtype.itemsize)
        wrapped: NDArray[Any] = np.ascontiguousarray(values).view(dtype)
        return wrapped - dtype(minimum % modulus) if minimum else wrapped
    return (values.astype(np.int64) - minimum).astype(dtype)


def _slots_with_escapes(
    values: NDArray[Any],
    counts: NDArray[np.int64],
    classes: LaneClasses,
    tables: Sequence[FrequencyTable],
    dtype: type[np.integer[Any]],
) -> tuple[NDArray[Any], LaneEscapes]:
    if values.dtype == np.uint64 and int(values.max()) >= 1 << 63:
        raise InvalidParameter("values must be below 2**63")
    minima = np.array([table.minimum for table in tables], np.int64)
    maxima = np.array([table.maximum for table in tables], np.int64)
    slots = np.empty(values.size, dtype)
    escapes: LaneEscapes = {}
    start = 0
    for lane, count in enumerate(counts.tolist()):
        lane_values = values[start : start + count].astype(np.int64)
        numbers = classes.at(np.full(count, lane), np.arange(count))
        low, high = minima[numbers], maxima[numbers]
        outside = (lane_values < low) | (lane_values > high)
        lane_slots = lane_values - low
        if outside.any():
            where = np.flatnonzero(outside)
            for table in np.unique(numbers[where]).tolist():
                if not tables[table].escape:
                    first = int(where[numbers[where] == table][0])
                    raise InvalidParameter(
                        f"value {int(lane_values[first])} (lane {lane}, symbol {first}) lies outside "
                        f"{tables[table].minimum}..{tables[table].maximum} and table {table} has no "
                        f"escape slot; build it with escape=True"
                    )
            lane_slots[where] = (high - low + 1)[where]
            escapes[lane] = escape_codes(lane_values[where], low[where], high[where])
        slots[start : start + count] = lane_slots
        start += count
    return slots, escapes
