"""The last step of a prediction: maps from the mixed probability, by recent bytes, to what then really came."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged
from .hashing import fold
from .prefetching import prefetch

__all__ = ["map_rows", "nudge_maps", "refined"]

_CELLS = 33
_LEAST = 16


@merged
def map_rows(level, state, history, partial):  # type: ignore[no-untyped-def]
    """Where the rows of the maps of orders 1 to 3 begin; asked for now, they are there when the mixer is done."""
    mask = len(state.apm_order2) // _CELLS - 1
    row1 = (partial | (history & 0xFF) << 8) * _CELLS
    row2 = (fold(fold(0x51, history & 0xFFFF), partial) >> 24 & mask) * _CELLS
    row3 = np.int64(0)
    prefetch(state.apm_order1, row1)
    prefetch(state.apm_order1, row1 + _CELLS - 1)
    prefetch(state.apm_order2, row2)
    prefetch(state.apm_order2, row2 + _CELLS - 1)
    if level >= 3:
        row3 = (fold(fold(0x52, history & 0xFFFFFF), partial) >> 24 & mask) * _CELLS
        prefetch(state.apm_order3, row3)
        prefetch(state.apm_order3, row3 + _CELLS - 1)
    return row1, row2, row3


@merged
def _between(table, index, part):  # type: ignore[no-untyped-def]
    return (np.int64(table[index]) * (128 - part) + np.int64(table[index + 1]) * part) >> 7


@merged
def refined(level, state, rows, s, mixed):  # type: ignore[no-untyped-def]
    """The probability to code with, of 65,536: the ``mixed`` one, of stretch ``s``, and what the maps make of it."""
    cell = (s + 2048) >> 7
    part = (s + 2048) & 127
    r1 = _between(state.apm_order1, rows[0] + cell, part)
    r2 = _between(state.apm_order2, rows[1] + cell, part)
    if level >= 3:
        r3 = _between(state.apm_order3, rows[2] + cell, part)
        p = (2 * mixed + 2 * r1 + 2 * r2 + 2 * r3 + 4) >> 3
    else:
        p = (2 * mixed + r1 + r2 + 2) >> 2
    return min(65536 - _LEAST, max(_LEAST, p))


@merged
def _nudge(table, index, bit):  # type: ignore[no-untyped-def]
    value = np.int64(table[index])
    table[index] = value + ((65535 * bit - value) >> 6)


@merged
def nudge_maps(level, state, rows, s, bit):  # type: ignore[no-untyped-def]
    """Move the nearer cell of each row towards ``bit``."""
    nearest = (s + 2048 + 64) >> 7
    _nudge(state.apm_order1, rows[0] + nearest, bit)
    _nudge(state.apm_order2, rows[1] + nearest, bit)
    if level >= 3:
        _nudge(state.apm_order3, rows[2] + nearest, bit)
