# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""Native encoders of ANS lanes: integer loops compiled by Numba.

Four lanes advance together, from their last symbol to their first. Their symbols are first laid side
by side, because four pointers more would not fit the registers. A word is always written and the
write position moves only where it was due, so nothing is left to branch prediction. Division by a
frequency is a multiplication by a stored reciprocal, which is exact.

The first call compiles, or loads what an earlier process compiled.
"""

from __future__ import annotations

import numpy as np
from numba import int64, uint32, uint64

from .native_compilation import compiled, high_product, inlined

__all__ = ["encode_lanes"]

_0, _1, _2, _3, _12, _16, _32, _48 = (uint64(n) for n in (0, 1, 2, 3, 12, 16, 32, 48))
_UP, _DOWN = uint32(12), uint32(20)
_TOTAL = uint64(1 << 24)
_MASK16, _MASK32 = uint64((1 << 16) - 1), uint64((1 << 32) - 1)
_SIDE_BY_SIDE = 256


@inlined
def _spill(state, written, scratch, due):
    scratch[uint64(written)] = state & _MASK32
    return ((state >> _32) if due else state), written + int64(due)


@inlined
def _general_symbol(slot, entries, table, scratch, state, written):
    entry = (slot << _2) + table
    state, written = _spill(state, written, scratch, state > entries[entry])
    complement = entries[entry + _3]
    frequency = _TOTAL - complement
    # The reciprocal is rounded down, so the quotient is exact or one too small.
    quotient = high_product(state, entries[entry + _1])
    quotient += uint64((state - quotient * frequency) >= frequency)
    return state + entries[entry + _2] + quotient * complement, written


@inlined
def _aligned_symbol(slot, entries, table, scratch, state, written):
    """As above on the upper 52 bits of the state, where (state + 1) * reciprocal is exact."""
    entry = (slot << _2) + table
    state, written = _spill(state, written, scratch, state > entries[entry])
    quotient = high_product(state + _1, entries[entry + _1])
    return state + entries[entry + _2] + quotient * entries[entry + _3], written


@inlined
def _general_flush(scratch, base, written, state, words, position):
    for i in range(written - base):
        words[uint64(position + i)] = scratch[uint64(base + i)]
    position += written - base
    while state != _0:
        words[uint64(position)] = state & _MASK32
        state >>= _32
        position += 1
    return position


@inlined
def _aligned_flush(scratch, base, written, state, words, position):
    """Shift the spilled words and the state up by 12 bits as one long number."""
    carried = uint32(0)
    if written > base:
        words[uint64(position)] = scratch[uint64(base)] << _UP
        for i in range(1, written - base):
            low, high = scratch[uint64(base + i - 1)], scratch[uint64(base + i)]
            words[uint64(position + i)] = low >> _DOWN | high << _UP
        carried = scratch[uint64(written - 1)] >> _DOWN
        position += written - base
    state = (state << _12) | uint64(carried)
    while state != _0:
        words[uint64(position)] = state & _MASK32
        state >>= _32
        position += 1
    return position


@inlined
def _flush(aligned, scratch, base, written, state, words, position):
    if aligned:
        return _aligned_flush(scratch, base, written, state, words, position)
    return _general_flush(scratch, base, written, state, words, position)


@inlined
def _rest(symbols, start, count, common, classes, row, group_size, entries, stride, aligned, scratch, base):
    """Encode symbols ``count - 1`` down to ``common`` of one lane."""
    state, written = _0, base
    t = count
    while t > common:
        group = (t - 1) // group_size
        stop = max(common, group * group_size)
        table = uint64(classes[row + group]) * stride
        for i in range(t - 1, stop - 1, -1):
            slot = uint64(symbols[uint64(start + i)])
            if aligned:
                state, written = _aligned_symbol(slot, entries, table, scratch, state, written)
            else:
                state, written = _general_symbol(slot, entries, table, scratch, state, written)
        t = stop
    return state, written


@inlined
def _lay_side_by_side(symbols, o0, o1, o2, o3, count, beside):
    """Symbol ``i`` of four lanes in the four quarters of ``beside[i]``."""
    for i in range(count):
        beside[i] = (
            uint64(symbols[uint64(o0 + i)])
            | uint64(symbols[uint64(o1 + i)]) << _16
            | uint64(symbols[uint64(o2 + i)]) << _32
            | uint64(symbols[uint64(o3 + i)]) << _48
        )


@compiled
def encode_lanes(
    symbols, starts, counts, classes, rows, group_size,
    entries, stride, aligned, scratch, capacity, words, first, last, sizes,
):  # fmt: skip
    """Encode lanes ``first .. last - 1``; return the number of words.

    Args:
        symbols: slot numbers; those of lane ``l`` begin at ``starts[l]``.
        counts: symbols per lane.
        classes: table numbers; group ``g`` of lane ``l`` uses ``classes[rows[l] + g]``.
        entries: [tables * stride / 4, 4] of each slot: the largest state that takes it without spilling a word,
            floor((2**64 - 1) / frequency), cumulative frequency, and the total less the frequency; of frequencies and
            total divided by 2**12 if ``aligned``.
        scratch: at least 4 * capacity words of working space.
        capacity: at least one more than the symbols of the longest lane.
        words: receives the words of all lanes, one after the other.
        sizes: per lane, receives the number of words.
    """
    beside = np.empty(_SIDE_BY_SIDE, np.uint64)
    z1, z2, z3 = capacity, 2 * capacity, 3 * capacity
    position = int64(0)
    lane = first
    while lane + 4 <= last:
        o0, o1, o2, o3 = starts[lane], starts[lane + 1], starts[lane + 2], starts[lane + 3]
        r0, r1, r2, r3 = rows[lane], rows[lane + 1], rows[lane + 2], rows[lane + 3]
        n0, n1, n2, n3 = counts[lane], counts[lane + 1], counts[lane + 2], counts[lane + 3]
        t = min(min(n0, n1), min(n2, n3))
        s0, w0 = _rest(symbols, o0, n0, t, classes, r0, group_size, entries, stride, aligned, scratch, int64(0))
        s1, w1 = _rest(symbols, o1, n1, t, classes, r1, group_size, entries, stride, aligned, scratch, z1)
        s2, w2 = _rest(symbols, o2, n2, t, classes, r2, group_size, entries, stride, aligned, scratch, z2)
        s3, w3 = _rest(symbols, o3, n3, t, classes, r3, group_size, entries, stride, aligned, scratch, z3)
        while t > 0:
            group = (t - 1) // group_size
            stop = max(group * group_size, t - _SIDE_BY_SIDE)
            d0, d1 = uint64(classes[r0 + group]) * stride, uint64(classes[r1 + group]) * stride
            d2, d3 = uint64(classes[r2 + group]) * stride, uint64(classes[r3 + group]) * stride
            _lay_side_by_side(symbols, o0 + stop, o1 + stop, o2 + stop, o3 + stop, t - stop, beside)
            if aligned:
                for i in range(t - stop - 1, -1, -1):
                    four = beside[uint64(i)]
                    s0, w0 = _aligned_symbol(four & _MASK16, entries, d0, scratch, s0, w0)
                    s1, w1 = _aligned_symbol(four >> _16 & _MASK16, entries, d1, scratch, s1, w1)
                    s2, w2 = _aligned_symbol(four >> _32 & _MASK16, entries, d2, scratch, s2, w2)
                    s3, w3 = _aligned_symbol(four >> _48, entries, d3, scratch, s3, w3)
            else:
                for i in range(t - stop - 1, -1, -1):
                    four = beside[uint64(i)]
                    s0, w0 = _general_symbol(four & _MASK16, entries, d0, scratch, s0, w0)
                    s1, w1 = _general_symbol(four >> _16 & _MASK16, entries, d1, scratch, s1, w1)
                    s2, w2 = _general_symbol(four >> _32 & _MASK16, entries, d2, scratch, s2, w2)
                    s3, w3 = _general_symbol(four >> _48, entries, d3, scratch, s3, w3)
            t = stop
        begin = position
        position = _flush(aligned, scratch, int64(0), w0, s0, words, position)
        sizes[lane] = position - begin
        begin = position
        position = _flush(aligned, scratch, z1, w1, s1, words, position)
        sizes[lane + 1] = position - begin
        begin = position
        position = _flush(aligned, scratch, z2, w2, s2, words, position)
        sizes[lane + 2] = position - begin
        begin = position
        position = _flush(aligned, scratch, z3, w3, s3, words, position)
        sizes[lane + 3] = position - begin
        lane += 4
    while lane < last:
        s0, w0 = _rest(
            symbols, starts[lane], counts[lane], 0, classes, rows[lane], group_size,
            entries, stride, aligned, scratch, int64(0),
        )  # fmt: skip
        begin = position
        position = _flush(aligned, scratch, int64(0), w0, s0, words, position)
        sizes[lane] = position - begin
        lane += 1
    return position
