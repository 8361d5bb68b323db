"""Building the n-gram memory: count every context, keep the nodes that save the most bits.

For each context in turn, the training text is counted into lines of nibble-tree nodes; a node is kept when coding
its counts with its own probability instead of the one the shorter contexts already in the memory give saves at
least ``threshold`` bits (entropy pruning: Stolcke, "Entropy-based pruning of backoff language models", 1998). A full
line keeps its most valuable nodes. Floating point is used here freely: nothing but the finished 16-bit slots
reaches a coder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...entropy.native_compilation import compiled, inlined, merged
from .contexts import Register, fresh_registers, update_registers
from .hashing import spread
from .logistic import logistic_tables
from .prefetching import prefetch
from .recall import LEVEL_STEP, LOWEST_LEVEL, MEMORY_ORDERS, memory_contexts, memory_line, recall_levels

__all__ = ["train_memory"]

_R = Register()
_AHEAD = 12
_CHUNK = 8192
_JUDGED = 0xFFFFFFFF
_COUNT_LIMIT = 0xFFF0


@inlined
def _hash_chunk(text, start, stop, reg, hashes):  # type: ignore[no-untyped-def]
    """Context hashes of the bytes ``start`` to ``stop``, one row each."""
    unused = np.zeros(1, np.int64)
    for i in range(start, stop):
        memory_contexts(reg[_R.history], min(i, 8), reg[_R.word], reg[_R.word1], hashes[i - start])
        update_registers(1, text, i, np.int64(text[i]), reg, unused, unused)


@merged
def _root(nibble, c):  # type: ignore[no-untyped-def]
    """The partial byte at a nibble's start."""
    return np.int64(1) if nibble == 0 else 16 | (c >> 4)


@merged
def _uses(lines, base):  # type: ignore[no-untyped-def]
    value = np.int64(lines[base + 1])
    return np.int64(0xFFFFF) if value == _JUDGED else (value & 0xFFFF) + (value >> 16)


@inlined
def _line_of(lines, h):  # type: ignore[no-untyped-def]
    """Word offset of the counting line of hash ``h``: the least used of three is claimed when it is absent."""
    check = (h >> 40) & 0xFFFF | 1
    line = h & (len(lines) // 16 - 1)
    chosen = line << 4
    least = np.int64(1 << 40)
    for k in range(3):
        base = (line ^ k) << 4
        if np.int64(lines[base]) == check:
            return base
        uses = _uses(lines, base)
        if uses < least:
            least = uses
            chosen = base
    lines[chosen] = check
    for z in range(1, 16):
        lines[chosen + z] = 0
    return chosen


@compiled
def _count(order, text, lines, reg):  # type: ignore[no-untyped-def]
    """Count the bits that follow every context of one order; a node is zeros | ones << 16."""
    hashes = np.zeros((_CHUNK, MEMORY_ORDERS), np.int64)
    mask = len(lines) // 16 - 1
    for start in range(0, len(text), _CHUNK):
        size = min(_CHUNK, len(text) - start)
        _hash_chunk(text, start, start + size, reg, hashes)
        for i in range(size):
            if i + _AHEAD < size:
                following = np.int64(text[start + i + _AHEAD])
                for nibble in range(2):
                    h = spread(hashes[i + _AHEAD, order], _root(nibble, following))
                    prefetch(lines, (h & mask) << 4)
            if hashes[i, order] == 0:
                continue
            c = np.int64(text[start + i])
            for nibble in range(2):
                base = _line_of(lines, spread(hashes[i, order], _root(nibble, c)))
                bits = c >> 4 if nibble == 0 else c & 15
                node = np.int64(1)
                for k in range(4):
                    y = (bits >> (3 - k)) & 1
                    value = np.int64(lines[base + node]) + (65536 if y else 1)
                    if value & 0xFFFF >= _COUNT_LIMIT or value >> 16 >= _COUNT_LIMIT:
                        value = (value >> 1) & 0x7FFF7FFF
                    lines[base + node] = value
                    node = node << 1 | y


@merged
def _gain_bits(zeros, ones, q):  # type: ignore[no-untyped-def]
    """Bits that a node saves over the probability ``q`` of shorter contexts, and its own probability."""
    p = (ones + q) / (zeros + ones + 1.0)
    return ones * np.log2(p / q) + zeros * np.log2((1.0 - p) / (1.0 - q)), p


@merged
def _store(memory, gains, h, node, level, gain):  # type: ignore[no-untyped-def]
    """Put a node in place of the least valuable of its line, if it is worth more."""
    line = memory_line(h, len(memory) // 16)
    place = line
    for z in range(16):
        if gains[line + z] < gains[place]:
            place = line + z
    if gains[place] < gain:
        gains[place] = gain
        memory[place] = node << 12 | (h >> 44 & 127) << 5 | level


@compiled
def _keep(order, text, lines, reg, memory, gains, threshold, tables):  # type: ignore[no-untyped-def]
    """Move the nodes worth keeping from ``lines`` into ``memory``."""
    hashes = np.zeros((_CHUNK, MEMORY_ORDERS), np.int64)
    levels = np.zeros(MEMORY_ORDERS * 16, np.int64)
    memory_lines = len(memory) // 16
    mask = len(lines) // 16 - 1
    for start in range(0, len(text), _CHUNK):
        size = min(_CHUNK, len(text) - start)
        _hash_chunk(text, start, start + size, reg, hashes)
        for i in range(size):
            if i + _AHEAD < size:
                following = np.int64(text[start + i + _AHEAD])
                for nibble in range(2):
                    h = spread(hashes[i + _AHEAD, order], _root(nibble, following))
                    prefetch(lines, (h & mask) << 4)
            if hashes[i, order] == 0:
                continue
            c = np.int64(text[start + i])
            for nibble in range(2):
                at = _root(nibble, c)
                h = spread(hashes[i, order], at)
                base = _line_of(lines, h)
                loaded = False
                bits = c >> 4 if nibble == 0 else c & 15
                node = np.int64(1)
                for k in range(4):
                    value = np.int64(lines[base + node])
                    zeros = value & 0xFFFF
                    ones = value >> 16
                    if value != _JUDGED and zeros + ones >= 3:
                        lines[base + node] = _JUDGED
                        if not loaded:
                            loaded = True
                            for shorter in range(order):
                                context = hashes[i, shorter]
                                recall_levels(memory, memory_lines, context, spread(context, at), levels, shorter * 16)
                        q = 0.5
                        for shorter in range(order):
                            if levels[shorter * 16 + node] > 0:
                                s = (levels[shorter * 16 + node] - 1) * LEVEL_STEP + LOWEST_LEVEL
                                q = tables.squash[2048 + s] / 65536.0
                        gain, p = _gain_bits(zeros, ones, q)
                        if gain > threshold:
                            s = np.int64(tables.stretch[min(4095, np.int64(p * 4096))])
                            level = min(31, max(0, (s - LOWEST_LEVEL + LEVEL_STEP // 2) // LEVEL_STEP))
                            _store(memory, gains, h, node, level, gain)
                    node = node << 1 | (bits >> (3 - k)) & 1


def train_memory(
    text: NDArray[np.uint8],
    *,
    lines: int,
    threshold: float,
    count_line_bits: int = 24,
    report: Callable[[str], None] | None = None,
) -> NDArray[np.uint16]:
    """Build a memory of ``lines`` lines of 16 slots (32 bytes each) from a training text.

    Args:
        text: all training bytes in one array.
        lines: size of the memory.
        threshold: bits a node must save on the training text to be kept.
        count_line_bits: log2 of the 64-byte lines used for counting one order.
        report: called with one line of progress per order.
    """
    tables = logistic_tables()
    memory = np.zeros(lines * 16, np.uint16)
    gains = np.zeros(lines * 16, np.float32)
    for order in range(MEMORY_ORDERS):
        raw = np.zeros((16 << count_line_bits) + 16, np.uint32)
        offset = (-raw.ctypes.data // 4) % 16
        counts = raw[offset : offset + (16 << count_line_bits)]
        _count(order, text, counts, fresh_registers())
        _keep(order, text, counts, fresh_registers(), memory, gains, threshold, tables)
        if report is not None:
            used = int(np.count_nonzero(memory))
            report(f"context {order}: {used:,} of {len(memory):,} slots used")
    return memory
