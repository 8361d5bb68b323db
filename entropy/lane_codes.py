"""How the symbols of a lane block look in memory: codes of 8 or 16 bits, and the values they mean.

A decoder stores one *code* a symbol. Where one of numpy's 8- and 16-bit types holds every value
of every table, the code is the value itself in that type, and one more code marks an escape.
Otherwise the code is the slot number and values are formed afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile
from .escapes import unpack_escapes, values_of_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable
    from .lane_block import LaneBlock

__all__ = ["CodePlan", "plan_codes", "values_of_block"]

_STEP = 1 << 22
_NARROW: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int8, np.uint16, np.int16)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePlan:
    """The codes of a set of tables.

    ``value_dtype`` is the type whose values the codes are, or ``None`` where codes are slots.
    ``codes[table]`` holds the code of each slot. ``marker`` is the code, as a value, of an escape.
    """

    code_dtype: type[np.integer[Any]]
    value_dtype: type[np.integer[Any]] | None
    codes: tuple[NDArray[Any], ...]
    marker: int | None


def plan_codes(tables: Sequence[FrequencyTable]) -> CodePlan:
    """Choose the smallest codes for ``tables``."""
    lowest = min(table.minimum for table in tables)
    highest = max(table.maximum for table in tables)
    marker = highest + 1 if any(table.escape for table in tables) else None
    for dtype in _NARROW:
        limits = np.iinfo(dtype)
        if limits.min <= lowest and (highest if marker is None else marker) <= limits.max:
            code_dtype = np.uint8 if limits.bits == 8 else np.uint16
            codes = [table.minimum + np.arange(table.slots) for table in tables]
            for table, code in zip(tables, codes, strict=True):
                if table.escape:
                    code[-1] = highest + 1
            narrow = tuple(code.astype(dtype).view(code_dtype) for code in codes)
            return CodePlan(code_dtype=code_dtype, value_dtype=dtype, codes=narrow, marker=marker)
    slots = max(table.slots for table in tables)
    code_dtype = np.uint8 if slots <= 256 else np.uint16
    wide = tuple(np.arange(table.slots).astype(code_dtype) for table in tables)
    return CodePlan(code_dtype=code_dtype, value_dtype=None, codes=wide, marker=None)


def values_of_block(block: LaneBlock, lanes: NDArray[np.int64], codes: NDArray[Any], plan: CodePlan) -> NDArray[Any]:
    """The values behind the flat ``codes`` of the selected ``lanes``, escapes put back.

    Returns:
        An array of ``plan.value_dtype``, or int64 where codes are slots or the block has escapes.

    Raises:
        CorruptFile: a lane decodes another number of escapes than it stores.
    """
    ends = np.cumsum(block.symbol_counts[lanes])
    escaped = _escape_positions(block, lanes, ends, codes, plan)
    found = np.bincount(np.searchsorted(ends, escaped, side="right"), minlength=lanes.size)
    wrong = np.flatnonzero(found != block.escape_counts[lanes])
    if wrong.size:
        lane = int(lanes[wrong[0]])
        raise CorruptFile(
            f"lane block: lane {lane} decodes {found[wrong[0]]} escapes and stores {block.escape_counts[lane]}"
        )
    if plan.value_dtype is not None:
        values: NDArray[Any] = codes.view(plan.value_dtype)
        if escaped.size == 0:
            return values
        values = values.astype(np.int64)
    else:
        minima = np.array([table.minimum for table in block.tables], np.int64)
        values = codes.astype(np.int64)
        for start in range(0, codes.size, _STEP):
            values[start : start + _STEP] += minima[
                _tables_at(block, lanes, ends, start, min(start + _STEP, codes.size))
            ]
    if escaped.size:
        numbers = _table_numbers(block, lanes, ends, escaped)
        minimum = np.array([table.minimum for table in block.tables], np.int64)[numbers]
        maximum = np.array([table.maximum for table in block.tables], np.int64)[numbers]
        stored = [
            unpack_escapes(
                block.escapes[block.escape_offsets[lane] : block.escape_offsets[lane + 1]],
                int(block.escape_counts[lane]),
                f"lane block, lane {lane}",
            )
            for lane in lanes[found > 0].tolist()
        ]
        values[escaped] = values_of_codes(np.concatenate(stored), minimum, maximum)
    return values


def _escape_positions(
    block: LaneBlock, lanes: NDArray[np.int64], ends: NDArray[np.int64], codes: NDArray[Any], plan: CodePlan
) -> NDArray[np.int64]:
    if not any(table.escape for table in block.tables):
        return np.zeros(0, np.int64)
    escape_slots = np.array([table.slots - 1 if table.escape else -1 for table in block.tables])
    found = []
    for start in range(0, codes.size, _STEP):
        part = codes[start : start + _STEP]
        if plan.value_dtype is not None:
            hits = part.view(plan.value_dtype) == plan.marker
        else:
            hits = part == escape_slots[_tables_at(block, lanes, ends, start, start + part.size)]
        found.append(np.flatnonzero(hits) + start)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _tables_at(
    block: LaneBlock, lanes: NDArray[np.int64], ends: NDArray[np.int64], start: int, stop: int
) -> NDArray[np.uint16]:
    return _table_numbers(block, lanes, ends, np.arange(start, stop))


def _table_numbers(
    block: LaneBlock, lanes: NDArray[np.int64], ends: NDArray[np.int64], positions: NDArray[np.int64]
) -> NDArray[np.uint16]:
    index = np.searchsorted(ends, positions, side="right")
    starts = ends - block.symbol_counts[lanes]
    return block.classes.at(lanes[index], positions - starts[index])
