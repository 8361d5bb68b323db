# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""The native decoder of ANS lanes in which every symbol has a class of its own.

As in :mod:`.native_decoding`, four lanes advance together and keep the upper 52 bits of their states. The class of the
next symbol is known before it is needed, so its table is found while the states are still being multiplied; asking
once for many symbols whether every lane has words left makes this twice as fast as loops over groups of one.
"""

from __future__ import annotations

from numba import int64, uint64

from .native_compilation import compiled, inlined
from .native_decoding import fetch_shifted, refill, start_lane

__all__ = ["decode_each"]

_0, _8, _12, _20 = (uint64(n) for n in (0, 8, 12, 20))
_MASK12 = uint64((1 << 12) - 1)
_FULL_SHIFTED = uint64(1 << 20)
_WORTHWHILE = 16


@inlined
def _step(entries, number, out, index, state):
    entry = uint64(entries[(uint64(number) << _12) + (state & _MASK12)])
    out[uint64(index)] = entry  # the store keeps the low bits, which are the code
    return (state >> _12) * (entry >> _20) + ((entry >> _8) & _MASK12)


@inlined
def _symbol_inside(words, entries, number, out, index, state, position):
    """As below, for a lane that is known to have another word."""
    state = _step(entries, number, out, index, state)
    return refill(state, position, words, state < _FULL_SHIFTED)


@inlined
def _symbol(words, begin, entries, number, out, index, state, position):
    state = _step(entries, number, out, index, state)
    return refill(state, position, words, (state < _FULL_SHIFTED) & (position >= begin))


@inlined
def _rest(words, begin, count, classes, entries, out, start, t, state, position):
    """Decode symbols ``t .. count - 1`` of one lane; return 1 where its words do not end there."""
    for i in range(t, count):
        number = classes[uint64(start + i)]
        state, position = _symbol(words, begin, entries, number, out, start + i, state, position)
    return int64(state != _0) | int64(position >= begin)


@compiled
def decode_each(words, begins, ends, counts, classes, entries, out, starts, scratch, first, last, status):
    """Decode lanes ``first .. last - 1`` under 12-bit-aligned tables into codes.

    Args:
        words: uint32 as stored; lane ``l`` owns ``words[begins[l] : ends[l]]``.
        counts: symbols per lane.
        classes: the table of every symbol; those of lane ``l`` begin at ``starts[l]``.
        entries: uint32 [tables * 4096]; see :func:`.decoding_tables.aligned_entries` with codes of 8 bits.
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
        n0, n1, n2, n3 = counts[lane], counts[lane + 1], counts[lane + 2], counts[lane + 3]
        s0, p0 = start_lane(scratch, 1, f0)
        s1, p1 = start_lane(scratch, f0, f1)
        s2, p2 = start_lane(scratch, f1, f2)
        s3, p3 = start_lane(scratch, f2, f3)
        common = min(min(n0, n1), min(n2, n3))
        t = 0
        while t < common:
            # A symbol takes at most one word, so this many need no check for the lane's end.
            safe = min(common - t, min(min(p0 - 1, p1 - f0), min(p2 - f1, p3 - f2)) + 1)
            if safe < _WORTHWHILE:
                break
            for i in range(t, t + safe):
                c0, c1 = classes[uint64(o0 + i)], classes[uint64(o1 + i)]
                c2, c3 = classes[uint64(o2 + i)], classes[uint64(o3 + i)]
                s0, p0 = _symbol_inside(scratch, entries, c0, out, o0 + i, s0, p0)
                s1, p1 = _symbol_inside(scratch, entries, c1, out, o1 + i, s1, p1)
                s2, p2 = _symbol_inside(scratch, entries, c2, out, o2 + i, s2, p2)
                s3, p3 = _symbol_inside(scratch, entries, c3, out, o3 + i, s3, p3)
            t += safe
        for i in range(t, common):
            c0, c1 = classes[uint64(o0 + i)], classes[uint64(o1 + i)]
            c2, c3 = classes[uint64(o2 + i)], classes[uint64(o3 + i)]
            s0, p0 = _symbol(scratch, 1, entries, c0, out, o0 + i, s0, p0)
            s1, p1 = _symbol(scratch, f0, entries, c1, out, o1 + i, s1, p1)
            s2, p2 = _symbol(scratch, f1, entries, c2, out, o2 + i, s2, p2)
            s3, p3 = _symbol(scratch, f2, entries, c3, out, o3 + i, s3, p3)
        status[lane] |= _rest(scratch, 1, n0, classes, entries, out, o0, common, s0, p0)
        status[lane + 1] |= _rest(scratch, f0, n1, classes, entries, out, o1, common, s1, p1)
        status[lane + 2] |= _rest(scratch, f1, n2, classes, entries, out, o2, common, s2, p2)
        status[lane + 3] |= _rest(scratch, f2, n3, classes, entries, out, o3, common, s3, p3)
        lane += 4
    while lane < last:
        f0, status[lane] = fetch_shifted(words, begins[lane], ends[lane], scratch, 1)
        s0, p0 = start_lane(scratch, 1, f0)
        status[lane] |= _rest(scratch, 1, counts[lane], classes, entries, out, starts[lane], 0, s0, p0)
        lane += 1
