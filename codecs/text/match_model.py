"""Match models: follow the longest earlier occurrence of the last few bytes."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged
from .adaptive_maps import learn
from .hashing import fold
from .model_state import MATCH_CELLS

__all__ = ["advance_matches", "learn_matches", "match_inputs"]

_ORDERS = (6, 12, 24)
_LONGEST = 400


@merged
def advance_matches(shape, state, work, data, i):  # type: ignore[no-untyped-def]
    """Move every match to byte ``i`` and note the byte each expects there, 0 for none."""
    mask = len(state.match_heads) // max(1, shape.matches) - 1
    for m in range(shape.matches):
        work.match_at[m], work.match_length[m] = _advance(
            data, i, state.match_heads, m * (mask + 1), mask, _ORDERS[m], work.match_at[m], work.match_length[m]
        )
        work.match_byte[m] = np.int64(data[work.match_at[m]]) | 256 if work.match_length[m] > 0 else 0


@merged
def _advance(data, i, heads, base, mask, order, at, length):  # type: ignore[no-untyped-def]
    """Move a match past byte ``i - 1``, or look for a new one; return (position, length).

    ``heads[base:]`` maps the hash of the last ``order`` bytes to the position that followed them.
    Length 0 means no match. Candidates are verified byte by byte, so a collision costs nothing.
    """
    if length > 0 and data[at] == data[i - 1]:
        length = min(length + 1, 65535)
        at += 1
    else:
        length = 0
    if i < order:
        return at, length
    h = np.int64(order)
    for k in range(1, order + 1):
        h = h * 0x2F0B4C4797A3D5 + data[i - k] + 1
    h = fold(h, order)
    slot = base + ((h >> 20) & mask)
    if length == 0:
        candidate = np.int64(heads[slot])
        if candidate > 0:
            found = np.int64(0)
            while (
                found < _LONGEST and candidate - 1 - found >= 0 and data[candidate - 1 - found] == data[i - 1 - found]
            ):
                found += 1
            if found >= min(order, 8) - 1:
                length = found
                at = candidate
    heads[slot] = i
    return at, length


@merged
def _length_bucket(length):  # type: ignore[no-untyped-def]
    """Logarithmic bucket of a match length, 0 to 63."""
    if length < 16:
        return length
    if length < 80:
        return min(16 + ((length - 16) >> 2), 31)
    return min(32 + ((length - 80) >> 4), 63)


@merged
def match_inputs(shape, state, tables, work, partial, bit):  # type: ignore[no-untyped-def]
    """Set the inputs of every match; return the longest that still agrees with this byte, and the byte it expects."""
    x = work.inputs
    longest = np.int64(0)
    expected = np.int64(0)
    for m in range(shape.matches):
        k = shape.contexts * shape.per_context + 2 * m
        x[k] = 0
        x[k + 1] = 0
        work.match_cell[m] = -1
        if work.match_length[m] > 0 and work.match_byte[m] >> (8 - bit) == partial:
            cell = m * MATCH_CELLS + _length_bucket(work.match_length[m]) * 4 + (bit >> 1)
            work.match_cell[m] = cell
            p = np.int64(state.match_maps[cell]) >> 20
            s = np.int64(tables.stretch[p])
            t = (p - 2048) >> 2
            if work.match_byte[m] >> (7 - bit) & 1:
                x[k] = s
                x[k + 1] = t
            else:
                x[k] = -s
                x[k + 1] = -t
            if work.match_length[m] > longest:
                longest = work.match_length[m]
                expected = work.match_byte[m] & 255
    return longest, expected


@merged
def learn_matches(shape, state, tables, work, bit, y):  # type: ignore[no-untyped-def]
    """Move the map of each match that expected a bit: it came, or another did."""
    for m in range(shape.matches):
        if work.match_cell[m] >= 0:
            hit = np.int64(work.match_byte[m] >> (7 - bit) & 1 == y)
            learn(state.match_maps, work.match_cell[m], hit, 1023, 0, tables.reciprocal)
