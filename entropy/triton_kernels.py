# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""Triton kernels over ANS lanes. Each element of a program's block is one lane.

All arithmetic is on 64-bit integers. Words arrive as int32, because torch has no uint32 kernels to
prepare them with.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["decode_kernel", "encode_kernel"]


@triton.jit
def decode_kernel(
    words, begins, ends, counts, starts, rows, classes, lookup, frequencies, cumulatives, codes, out, status,
    lanes, group_size, stride, search_steps, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Decode one lane an element; ``status`` becomes 1 where words and symbols do not end together."""
    lane = tl.program_id(0) * block + tl.arange(0, block)
    live = lane < lanes
    begin = tl.load(begins + lane, mask=live, other=0)
    position = tl.load(ends + lane, mask=live, other=0) - 1
    count = tl.load(counts + lane, mask=live, other=0)
    start = tl.load(starts + lane, mask=live, other=0)
    row = tl.load(rows + lane, mask=live, other=0)
    some = live & (position >= begin)
    top = tl.load(words + position, mask=some, other=1)
    state = tl.where(some, top, 0).to(tl.uint64) & 0xFFFFFFFF
    position -= some.to(tl.int64)
    more = live & (position >= begin)
    word = tl.load(words + position, mask=more, other=0).to(tl.uint64) & 0xFFFFFFFF
    state = tl.where(more, (state << 32) | word, state)
    position -= more.to(tl.int64)
    longest = tl.max(count, axis=0)
    groups = (longest + group_size - 1) // group_size
    for group in range(groups):
        first = group * group_size
        table = tl.load(classes + row + group, mask=live & (first < count), other=0)
        for t in range(first, tl.minimum(first + group_size, longest)):
            active = live & (t < count)
            quantile = (state & 0xFFFFFF).to(tl.int32)
            entry = tl.load(lookup + table * 4096 + (quantile >> 12), mask=active, other=0)
            if aligned:
                code = entry & 0xFFFF
                upper = (state >> 24) * (entry >> 28).to(tl.uint64) + ((entry >> 16) & 0xFFF).to(tl.uint64)
                decoded = (upper << 12) | (state & 0xFFF)
            else:
                # Binary search for the last slot that begins at or below the quantile.
                slot = entry.to(tl.int32)
                step = 1 << search_steps
                while step > 0:
                    candidate = slot + step
                    inside = active & (candidate < stride)
                    begins_at = tl.load(cumulatives + table * stride + candidate, mask=inside, other=1 << 24)
                    slot = tl.where(begins_at <= quantile, candidate, slot)
                    step = step >> 1
                index = table * stride + slot
                frequency = tl.load(frequencies + index, mask=active, other=1).to(tl.uint64)
                cumulative = tl.load(cumulatives + index, mask=active, other=0)
                code = tl.load(codes + index, mask=active, other=0)
                decoded = (state >> 24) * frequency + (quantile - cumulative).to(tl.uint64)
            tl.store(out + start + t, code.to(out.dtype.element_ty), mask=active)
            state = tl.where(active, decoded, state)
            needed = active & (state < 0x100000000) & (position >= begin)
            word = tl.load(words + position, mask=needed, other=0).to(tl.uint64) & 0xFFFFFFFF
            state = tl.where(needed, (state << 32) | word, state)
            position -= needed.to(tl.int64)
    wrong = (state != 0) | (position >= begin) | (top == 0)
    tl.store(status + lane, wrong.to(tl.int32), mask=live)


@triton.jit
def encode_kernel(
    values, rows, classes, frequencies, cumulatives, minima, regular, words, sizes, outside,
    lanes, symbols, group_size, stride, capacity, block: tl.constexpr,
):  # fmt: skip
    """Encode one lane an element, last symbol first; ``outside`` becomes 1 for values without a slot."""
    lane = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    live = lane < lanes
    row = tl.load(rows + lane, mask=live, other=0)
    state = tl.zeros([block], dtype=tl.uint64)
    size = tl.zeros([block], dtype=tl.int32)
    wrong = tl.zeros([block], dtype=tl.int32)
    base = lane * capacity
    for back in range(symbols):
        t = symbols - 1 - back
        table = tl.load(classes + row + t // group_size, mask=live, other=0)
        value = tl.load(values + lane * symbols + t, mask=live, other=0).to(tl.int64)
        slot = value - tl.load(minima + table, mask=live, other=0)
        inside = (slot >= 0) & (slot < tl.load(regular + table, mask=live, other=1))
        wrong = wrong | (live & ~inside).to(tl.int32)
        entry = table * stride + tl.where(inside, slot, 0)
        frequency = tl.load(frequencies + entry, mask=live, other=1).to(tl.uint64)
        cumulative = tl.load(cumulatives + entry, mask=live, other=0).to(tl.uint64)
        due = live & ((state >> 40) >= frequency)
        tl.store(words + base + size, (state & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True), mask=due)
        size += due.to(tl.int32)
        state = tl.where(due, state >> 32, state)
        quotient = state // frequency
        state = (quotient << 24) + cumulative + (state - quotient * frequency)
    for _ in range(2):
        due = live & (state != 0)
        tl.store(words + base + size, (state & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True), mask=due)
        size += due.to(tl.int32)
        state = state >> 32
    tl.store(sizes + lane, size, mask=live)
    tl.store(outside + lane, wrong, mask=live)
