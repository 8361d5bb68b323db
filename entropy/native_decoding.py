# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""Native decoders of ANS lanes: integer loops compiled by Numba.

Four lanes advance together, because one lane is a long chain of dependent operations and the
processor would idle in between; more lanes run out of registers. The next word is loaded whether
it is needed or not, which costs less than a mispredicted branch. Index 0 of ``words`` is padding,
so that this load stays inside the array even before the first word of the first lane.

The first call compiles, or loads what an earlier process compiled.
"""

from __future__ import annotations

from numba import int64, uint64

from .native_compilation import compiled, inlined

__all__ = ["decode_aligned", "decode_general"]

_0, _1, _12, _16, _24, _32 = (uint64(n) for n in (0, 1, 12, 16, 24, 32))
_MASK12, _MASK16, _MASK24, _MASK32 = (uint64((1 << n) - 1) for n in (12, 16, 24, 32))
_FULL = uint64(1 << 32)
_FULL_SHIFTED = uint64(1 << 20)
_SCAN = uint64(4)
_WORTHWHILE = 16


@inlined
def _refill(state, position, words, needed):
    refilled = (state << _32) | uint64(words[uint64(position)])
    return (refilled if needed else state), position - int64(needed)


@inlined
def _start(words, begin, end):
    """The state held by the top two words, and the position of the word below them."""
    if end - begin >= 2:
        return (uint64(words[end - 1]) << _32) | uint64(words[end - 2]), end - 3
    if end - begin == 1:
        return uint64(words[end - 1]), end - 2
    return _0, end - 1


# Tables whose frequencies are multiples of 2**12. The low 12 bits of the state change only when a
# word comes in, so the loop keeps the upper 52 bits and reads words that were shifted down by 12
# bits beforehand. An entry of the look-up table holds, from the low end: the code to store, the
# offset in the slot (12 bits), and the frequency divided by 2**12.


@inlined
def _aligned_step(entries, base, code_bits, out, index, state):
    entry = uint64(entries[base + (state & _MASK12)])
    out[uint64(index)] = entry  # the store keeps the low bits, which are the code
    return (state >> _12) * (entry >> (code_bits + _12)) + ((entry >> code_bits) & _MASK12)


@inlined
def _aligned_symbol_inside(words, entries, base, code_bits, out, index, state, position):
    """As below, for a lane that is known to have another word."""
    state = _aligned_step(entries, base, code_bits, out, index, state)
    return _refill(state, position, words, state < _FULL_SHIFTED)


@inlined
def _aligned_symbol(words, begin, entries, base, code_bits, out, index, state, position):
    state = _aligned_step(entries, base, code_bits, out, index, state)
    return _refill(state, position, words, (state < _FULL_SHIFTED) & (position >= begin))


@inlined
def _aligned_rest(words, begin, count, classes, row, group_size, entries, code_bits, out, start, t, state, position):
    """Decode symbols ``t .. count - 1`` of one lane; return 1 where its words do not end there."""
    while t < count:
        group = t // group_size
        stop = min(count, (group + 1) * group_size)
        base = uint64(classes[row + group]) << _12
        for i in range(t, stop):
            state, position = _aligned_symbol(words, begin, entries, base, code_bits, out, start + i, state, position)
        t = stop
    return int64(state != _0) | int64(position >= begin)


@compiled
def decode_aligned(
    words, offsets, counts, classes, rows, group_size, entries, code_bits, out, starts, first, last, status
):
    """Decode lanes ``first .. last - 1`` under 12-bit-aligned tables into codes.

    Args:
        words: uint32, each lane's words shifted down by 12 bits as one long number; lane ``l`` owns
            ``words[offsets[l] : offsets[l + 1]]``.
        counts: symbols per lane.
        classes: table numbers; group ``g`` of lane ``l`` uses ``classes[rows[l] + g]``.
        entries: [tables * 4096] packed look-up entries.
        code_bits: 8 or 16, the width of the code field of an entry.
        out: codes; those of lane ``l`` begin at ``starts[l]``.
        status: per lane, set to 1 where the words do not end exactly with the symbols.
    """
    lane = first
    while lane + 4 <= last:
        b0, b1, b2, b3 = offsets[lane], offsets[lane + 1], offsets[lane + 2], offsets[lane + 3]
        o0, o1, o2, o3 = starts[lane], starts[lane + 1], starts[lane + 2], starts[lane + 3]
        r0, r1, r2, r3 = rows[lane], rows[lane + 1], rows[lane + 2], rows[lane + 3]
        n0, n1, n2, n3 = counts[lane], counts[lane + 1], counts[lane + 2], counts[lane + 3]
        s0, p0 = _start(words, b0, b1)
        s1, p1 = _start(words, b1, b2)
        s2, p2 = _start(words, b2, b3)
        s3, p3 = _start(words, b3, offsets[lane + 4])
        common = min(min(n0, n1), min(n2, n3))
        t = 0
        while t < common:
            group = t // group_size
            stop = min(common, (group + 1) * group_size)
            e0, e1 = uint64(classes[r0 + group]) << _12, uint64(classes[r1 + group]) << _12
            e2, e3 = uint64(classes[r2 + group]) << _12, uint64(classes[r3 + group]) << _12
            while t < stop:
                # A symbol takes at most one word, so this many need no check for the lane's end.
                safe = min(stop - t, min(min(p0 - b0, p1 - b1), min(p2 - b2, p3 - b3)) + 1)
                if safe >= _WORTHWHILE:
                    for i in range(t, t + safe):
                        s0, p0 = _aligned_symbol_inside(words, entries, e0, code_bits, out, o0 + i, s0, p0)
                        s1, p1 = _aligned_symbol_inside(words, entries, e1, code_bits, out, o1 + i, s1, p1)
                        s2, p2 = _aligned_symbol_inside(words, entries, e2, code_bits, out, o2 + i, s2, p2)
                        s3, p3 = _aligned_symbol_inside(words, entries, e3, code_bits, out, o3 + i, s3, p3)
                    t += safe
                else:
                    for i in range(t, stop):
                        s0, p0 = _aligned_symbol(words, b0, entries, e0, code_bits, out, o0 + i, s0, p0)
                        s1, p1 = _aligned_symbol(words, b1, entries, e1, code_bits, out, o1 + i, s1, p1)
                        s2, p2 = _aligned_symbol(words, b2, entries, e2, code_bits, out, o2 + i, s2, p2)
                        s3, p3 = _aligned_symbol(words, b3, entries, e3, code_bits, out, o3 + i, s3, p3)
                    t = stop
        status[lane] = _aligned_rest(words, b0, n0, classes, r0, group_size, entries, code_bits, out, o0, t, s0, p0)
        status[lane + 1] = _aligned_rest(words, b1, n1, classes, r1, group_size, entries, code_bits, out, o1, t, s1, p1)
        status[lane + 2] = _aligned_rest(words, b2, n2, classes, r2, group_size, entries, code_bits, out, o2, t, s2, p2)
        status[lane + 3] = _aligned_rest(words, b3, n3, classes, r3, group_size, entries, code_bits, out, o3, t, s3, p3)
        lane += 4
    while lane < last:
        b0, o0, r0, n0 = offsets[lane], starts[lane], rows[lane], counts[lane]
        s0, p0 = _start(words, b0, offsets[lane + 1])
        status[lane] = _aligned_rest(words, b0, n0, classes, r0, group_size, entries, code_bits, out, o0, 0, s0, p0)
        lane += 1


# Tables at full resolution. The upper 12 bits of the quantile select a bucket, which knows the
# first slot that reaches into it and how many more do; most buckets know just one.


@inlined
def _general_symbol(words, begin, buckets, slots, codes, base, slot_base, out, index, state, position):
    quantile = state & _MASK24
    bucket = uint64(buckets[base + (quantile >> _12)])
    slot = slot_base + (bucket & _MASK16)
    span = bucket >> _16
    while span > _SCAN:
        half = span >> _1
        if (slots[slot + half] & _MASK32) <= quantile:
            slot += half
            span -= half
        else:
            span = half
    entry = slots[slot]
    while quantile - (entry & _MASK32) >= (entry >> _32):
        slot += _1
        entry = slots[slot]
    out[uint64(index)] = codes[slot]
    state = (state >> _24) * (entry >> _32) + (quantile - (entry & _MASK32))
    return _refill(state, position, words, (state < _FULL) & (position >= begin))


@inlined
def _general_rest(
    words, begin, count, classes, row, group_size, buckets, slots, codes, stride, out, start, t, state, position
):
    """Decode symbols ``t .. count - 1`` of one lane; return 1 where its words do not end there."""
    while t < count:
        group = t // group_size
        stop = min(count, (group + 1) * group_size)
        number = uint64(classes[row + group])
        for i in range(t, stop):
            state, position = _general_symbol(
                words, begin, buckets, slots, codes, number << _12, number * stride, out, start + i, state, position
            )
        t = stop
    return int64(state != _0) | int64(position >= begin)


@compiled
def decode_general(
    words, offsets, counts, classes, rows, group_size,
    buckets, slots, codes, stride, out, starts, first, last, status,
):  # fmt: skip
    """Decode lanes ``first .. last - 1`` under tables of any alignment into codes.

    Args:
        words: uint32 as stored; the other lane arguments are those of :func:`decode_aligned`.
        buckets: [tables * 4096] first slot, and the number of further slots << 16.
        slots: [tables * stride] cumulative frequency, and the frequency << 32.
        codes: [tables * stride] the code of each slot.
    """
    lane = first
    while lane + 4 <= last:
        b0, b1, b2, b3 = offsets[lane], offsets[lane + 1], offsets[lane + 2], offsets[lane + 3]
        o0, o1, o2, o3 = starts[lane], starts[lane + 1], starts[lane + 2], starts[lane + 3]
        r0, r1, r2, r3 = rows[lane], rows[lane + 1], rows[lane + 2], rows[lane + 3]
        n0, n1, n2, n3 = counts[lane], counts[lane + 1], counts[lane + 2], counts[lane + 3]
        s0, p0 = _start(words, b0, b1)
        s1, p1 = _start(words, b1, b2)
        s2, p2 = _start(words, b2, b3)
        s3, p3 = _start(words, b3, offsets[lane + 4])
        common = min(min(n0, n1), min(n2, n3))
        t = 0
        while t < common:
            group = t // group_size
            stop = min(common, (group + 1) * group_size)
            c0, c1 = uint64(classes[r0 + group]), uint64(classes[r1 + group])
            c2, c3 = uint64(classes[r2 + group]), uint64(classes[r3 + group])
            e0, e1, e2, e3 = c0 << _12, c1 << _12, c2 << _12, c3 << _12
            d0, d1, d2, d3 = c0 * stride, c1 * stride, c2 * stride, c3 * stride
            for i in range(t, stop):
                s0, p0 = _general_symbol(words, b0, buckets, slots, codes, e0, d0, out, o0 + i, s0, p0)
                s1, p1 = _general_symbol(words, b1, buckets, slots, codes, e1, d1, out, o1 + i, s1, p1)
                s2, p2 = _general_symbol(words, b2, buckets, slots, codes, e2, d2, out, o2 + i, s2, p2)
                s3, p3 = _general_symbol(words, b3, buckets, slots, codes, e3, d3, out, o3 + i, s3, p3)
            t = stop
        status[lane] = _general_rest(
            words, b0, n0, classes, r0, group_size, buckets, slots, codes, stride, out, o0, t, s0, p0
        )
        status[lane + 1] = _general_rest(
            words, b1, n1, classes, r1, group_size, buckets, slots, codes, stride, out, o1, t, s1, p1
        )
        status[lane + 2] = _general_rest(
            words, b2, n2, classes, r2, group_size, buckets, slots, codes, stride, out, o2, t, s2, p2
        )
        status[lane + 3] = _general_rest(
            words, b3, n3, classes, r3, group_size, buckets, slots, codes, stride, out, o3, t, s3, p3
        )
        lane += 4
    while lane < last:
        b0, o0, r0, n0 = offsets[lane], starts[lane], rows[lane], counts[lane]
        s0, p0 = _start(words, b0, offsets[lane + 1])
        status[lane] = _general_rest(
            words, b0, n0, classes, r0, group_size, buckets, slots, codes, stride, out, o0, 0, s0, p0
        )
        lane += 1
