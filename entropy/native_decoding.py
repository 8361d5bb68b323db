# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""Native decoders of ANS lanes: integer loops compiled by Numba.

Four lanes advance together, because one lane is a long chain of dependent operations and the
processor would idle in between; more lanes run out of registers. The words of four lanes are first
copied to ``scratch``, which stays in the innermost cache. The next word is loaded whether it is
needed or not, which costs less than a mispredicted branch; index 0 of ``scratch`` is padding, so
that this load stays inside the array even before the first word.

The first call compiles, or loads what an earlier process compiled.
"""

from __future__ import annotations

from numba import int64, uint32, uint64

from .native_compilation import compiled, inlined

__all__ = ["decode_aligned", "decode_general", "fetch_shifted", "refill", "start_lane"]

_0, _1, _12, _16, _24, _32 = (uint64(n) for n in (0, 1, 12, 16, 24, 32))
_MASK12, _MASK16, _MASK24, _MASK32 = (uint64((1 << n) - 1) for n in (12, 16, 24, 32))
_FULL = uint64(1 << 32)
_FULL_SHIFTED = uint64(1 << 20)
_DOWN, _UP = uint32(12), uint32(20)
_SCAN = uint64(4)
_WORTHWHILE = 16


@inlined
def refill(state, position, words, needed):
    refilled = (state << _32) | uint64(words[uint64(position)])
    return (refilled if needed else state), position - int64(needed)


@inlined
def start_lane(words, begin, end):
    """The state held by the top two words, and the position of the word below them."""
    if end - begin >= 2:
        return (uint64(words[end - 1]) << _32) | uint64(words[end - 2]), end - 3
    if end - begin == 1:
        return uint64(words[end - 1]), end - 2
    return _0, end - 1


@inlined
def _fetch(words, begin, end, scratch, position):
    """Copy one lane's words to ``scratch[position:]``; return where they end, and 1 if no encoder wrote them."""
    size = end - begin
    for i in range(size):
        scratch[uint64(position + i)] = words[uint64(begin + i)]
    return position + size, int64(size > 0 and words[uint64(end - 1)] == 0)


# Tables whose frequencies are multiples of 2**12. The low 12 bits of the state change only when a
# word comes in, so the loop keeps the upper 52 bits and reads words that were shifted down by 12
# bits beforehand. An entry of the look-up table holds, from the low end: the code to store, the
# offset in the slot (12 bits), and the frequency divided by 2**12.


@inlined
def fetch_shifted(words, begin, end, scratch, position):
    """As :func:`_fetch`, each lane's words, as one long number, divided by 2**12."""
    size = end - begin
    if size == 0:
        return position, int64(0)
    for i in range(size - 1):
        low, high = words[uint64(begin + i)], words[uint64(begin + i + 1)]
        scratch[uint64(position + i)] = low >> _DOWN | high << _UP
    last = words[uint64(end - 1)]
    scratch[uint64(position + size - 1)] = last >> _DOWN
    # The state ends at zero, and its low 12 bits are those of the first word.
    return position + size, int64(last == 0 or (words[uint64(begin)] & uint32(4095)) != 0)


@inlined
def _aligned_step(entries, base, code_bits, out, index, state):
    entry = uint64(entries[base + (state & _MASK12)])
    out[uint64(index)] = entry  # the store keeps the low bits, which are the code
    return (state >> _12) * (entry >> (code_bits + _12)) + ((entry >> code_bits) & _MASK12)


@inlined
def _aligned_symbol_inside(words, entries, base, code_bits, out, index, state, position):
    """As below, for a lane that is known to have another word."""
    state = _aligned_step(entries, base, code_bits, out, index, state)
    return refill(state, position, words, state < _FULL_SHIFTED)


@inlined
def _aligned_symbol(words, begin, entries, base, code_bits, out, index, state, position):
    state = _aligned_step(entries, base, code_bits, out, index, state)
    return refill(state, position, words, (state < _FULL_SHIFTED) & (position >= begin))


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
    words,
    begins,
    ends,
    counts,
    classes,
    rows,
    group_size,
    entries,
    code_bits,
    out,
    starts,
    scratch,
    first,
    last,
    status,
):
    """Decode lanes ``first .. last - 1`` under 12-bit-aligned tables into codes.

    Args:
        words: uint32 as stored; lane ``l`` owns ``words[begins[l] : ends[l]]``.
        counts: symbols per lane.
        classes: table numbers; group ``g`` of lane ``l`` uses ``classes[rows[l] + g]``.
        entries: [tables * 4096] packed look-up entries.
        code_bits: 8 or 16, the width of the code field of an entry.
        out: codes; those of lane ``l`` begin at ``starts[l]``.
        scratch: uint32, at least one more than the words of any four lanes that are decoded together.
        status: per lane, set to 1 where the words do not end exactly with the symbols.
    """
    lane = first
    while lane + 4 <= last:
        f0, w0 = fetch_shifted(words, begins[lane], ends[lane], scratch, 1)
        f1, w1 = fetch_shifted(words, begins[lane + 1], ends[lane + 1], scratch, f0)
        f2, w2 = fetch_shifted(words, begins[lane + 2], ends[lane + 2], scratch, f1)
        f3, w3 = fetch_shifted(words, begins[lane + 3], ends[lane + 3], scratch, f2)
        status[lane], status[lane + 1], status[lane + 2], status[lane + 3] = w0, w1, w2, w3
        o0, o1, o2, o3 = starts[lane], starts[lane + 1], starts[lane + 2], starts[lane + 3]
        r0, r1, r2, r3 = rows[lane], rows[lane + 1], rows[lane + 2], rows[lane + 3]
        n0, n1, n2, n3 = counts[lane], counts[lane + 1], counts[lane + 2], counts[lane + 3]
        s0, p0 = start_lane(scratch, 1, f0)
        s1, p1 = start_lane(scratch, f0, f1)
        s2, p2 = start_lane(scratch, f1, f2)
        s3, p3 = start_lane(scratch, f2, f3)
        common = min(min(n0, n1), min(n2, n3))
        t = 0
        while t < common:
            group = t // group_size
            stop = min(common, (group + 1) * group_size)
            e0, e1 = uint64(classes[r0 + group]) << _12, uint64(classes[r1 + group]) << _12
            e2, e3 = uint64(classes[r2 + group]) << _12, uint64(classes[r3 + group]) << _12
            while t < stop:
                # A symbol takes at most one word, so this many need no check for the lane's end.
                safe = min(stop - t, min(min(p0 - 1, p1 - f0), min(p2 - f1, p3 - f2)) + 1)
                if safe >= _WORTHWHILE:
                    for i in range(t, t + safe):
                        s0, p0 = _aligned_symbol_inside(scratch, entries, e0, code_bits, out, o0 + i, s0, p0)
                        s1, p1 = _aligned_symbol_inside(scratch, entries, e1, code_bits, out, o1 + i, s1, p1)
                        s2, p2 = _aligned_symbol_inside(scratch, entries, e2, code_bits, out, o2 + i, s2, p2)
                        s3, p3 = _aligned_symbol_inside(scratch, entries, e3, code_bits, out, o3 + i, s3, p3)
                    t += safe
                else:
                    for i in range(t, stop):
                        s0, p0 = _aligned_symbol(scratch, 1, entries, e0, code_bits, out, o0 + i, s0, p0)
                        s1, p1 = _aligned_symbol(scratch, f0, entries, e1, code_bits, out, o1 + i, s1, p1)
                        s2, p2 = _aligned_symbol(scratch, f1, entries, e2, code_bits, out, o2 + i, s2, p2)
                        s3, p3 = _aligned_symbol(scratch, f2, entries, e3, code_bits, out, o3 + i, s3, p3)
                    t = stop
        status[lane] |= _aligned_rest(scratch, 1, n0, classes, r0, group_size, entries, code_bits, out, o0, t, s0, p0)
        status[lane + 1] |= _aligned_rest(
            scratch, f0, n1, classes, r1, group_size, entries, code_bits, out, o1, t, s1, p1
        )
        status[lane + 2] |= _aligned_rest(
            scratch, f1, n2, classes, r2, group_size, entries, code_bits, out, o2, t, s2, p2
        )
        status[lane + 3] |= _aligned_rest(
            scratch, f2, n3, classes, r3, group_size, entries, code_bits, out, o3, t, s3, p3
        )
        lane += 4
    while lane < last:
        o0, r0, n0 = starts[lane], rows[lane], counts[lane]
        f0, status[lane] = fetch_shifted(words, begins[lane], ends[lane], scratch, 1)
        s0, p0 = start_lane(scratch, 1, f0)
        status[lane] |= _aligned_rest(scratch, 1, n0, classes, r0, group_size, entries, code_bits, out, o0, 0, s0, p0)
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
    return refill(state, position, words, (state < _FULL) & (position >= begin))


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
    words, begins, ends, counts, classes, rows, group_size,
    buckets, slots, codes, stride, out, starts, scratch, first, last, status,
):  # fmt: skip
    """Decode lanes ``first .. last - 1`` under tables of any alignment into codes.

    Args:
        buckets: [tables * 4096] first slot, and the number of further slots << 16.
        slots: [tables * stride] cumulative frequency, and the frequency << 32.
        codes: [tables * stride] the code of each slot.
    """
    lane = first
    while lane + 4 <= last:
        f0, w0 = _fetch(words, begins[lane], ends[lane], scratch, 1)
        f1, w1 = _fetch(words, begins[lane + 1], ends[lane + 1], scratch, f0)
        f2, w2 = _fetch(words, begins[lane + 2], ends[lane + 2], scratch, f1)
        f3, w3 = _fetch(words, begins[lane + 3], ends[lane + 3], scratch, f2)
        status[lane], status[lane + 1], status[lane + 2], status[lane + 3] = w0, w1, w2, w3
        o0, o1, o2, o3 = starts[lane], starts[lane + 1], starts[lane + 2], starts[lane + 3]
        r0, r1, r2, r3 = rows[lane], rows[lane + 1], rows[lane + 2], rows[lane + 3]
        n0, n1, n2, n3 = counts[lane], counts[lane + 1], counts[lane + 2], counts[lane + 3]
        s0, p0 = start_lane(scratch, 1, f0)
        s1, p1 = start_lane(scratch, f0, f1)
        s2, p2 = start_lane(scratch, f1, f2)
        s3, p3 = start_lane(scratch, f2, f3)
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
                s0, p0 = _general_symbol(scratch, 1, buckets, slots, codes, e0, d0, out, o0 + i, s0, p0)
                s1, p1 = _general_symbol(scratch, f0, buckets, slots, codes, e1, d1, out, o1 + i, s1, p1)
                s2, p2 = _general_symbol(scratch, f1, buckets, slots, codes, e2, d2, out, o2 + i, s2, p2)
                s3, p3 = _general_symbol(scratch, f2, buckets, slots, codes, e3, d3, out, o3 + i, s3, p3)
            t = stop
        status[lane] |= _general_rest(
            scratch, 1, n0, classes, r0, group_size, buckets, slots, codes, stride, out, o0, t, s0, p0
        )
        status[lane + 1] |= _general_rest(
            scratch, f0, n1, classes, r1, group_size, buckets, slots, codes, stride, out, o1, t, s1, p1
        )
        status[lane + 2] |= _general_rest(
            scratch, f1, n2, classes, r2, group_size, buckets, slots, codes, stride, out, o2, t, s2, p2
        )
        status[lane + 3] |= _general_rest(
            scratch, f2, n3, classes, r3, group_size, buckets, slots, codes, stride, out, o3, t, s3, p3
        )
        lane += 4
    while lane < last:
        o0, r0, n0 = starts[lane], rows[lane], counts[lane]
        f0, status[lane] = _fetch(words, begins[lane], ends[lane], scratch, 1)
        s0, p0 = start_lane(scratch, 1, f0)
        status[lane] |= _general_rest(
            scratch, 1, n0, classes, r0, group_size, buckets, slots, codes, stride, out, o0, 0, s0, p0
        )
        lane += 1
