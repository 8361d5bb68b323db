"""The block coder: predicts every bit from the mixed contexts and codes it, in integers throughout.

One function serves both directions, so that encoder and decoder cannot drift apart.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ...entropy.native_compilation import compiled
from .contexts import Register, fill_contexts, update_registers
from .hashing import find_line, fold, spread
from .match_model import MATCH_LENGTHS, advance_match, length_bucket
from .mixer import dot, train
from .model_state import (
    BIAS_INPUTS,
    HISTORY_CELLS,
    MATCH_CELLS,
    MEMORY_LEVELS,
    RUN_CELLS,
)
from .prefetching import prefetch
from .recall import memory_contexts, memory_line, recall_levels

__all__ = ["DECODE", "ENCODE", "code_block"]

ENCODE = 0
DECODE = 1
_R = Register()
_ORDERS = MATCH_LENGTHS


@njit(nogil=True, inline="always")
def _learn(cells, index, bit, limit, slower, reciprocal):  # type: ignore[no-untyped-def]
    """Move a 22-bit probability with a 10-bit count towards ``bit``."""
    cell = np.int64(cells[index])
    count = cell & 1023
    p = cell >> 10
    p += ((4194303 * bit - p) * np.int64(reciprocal[count + slower])) >> 16
    if count < limit:
        count += 1
    cells[index] = p << 10 | count


@njit(nogil=True, inline="always")
def _nudge(table, index, bit, shift):  # type: ignore[no-untyped-def]
    value = np.int64(table[index])
    table[index] = value + ((65535 * bit - value) >> shift)


@njit(nogil=True, inline="always")
def _refine(table, index, part):  # type: ignore[no-untyped-def]
    return (np.int64(table[index]) * (128 - part) + np.int64(table[index + 1]) * part) >> 7


@compiled
def code_block(direction, data, n, coded, shape, tables, state, memory, registers):  # type: ignore[no-untyped-def]
    """Code ``data[:n]`` into ``coded``, or decode ``coded`` into ``data[:n]``.

    Returns the coded size in bytes, or -1 when ``coded`` is too small to hold it (encoding only).
    """
    level = shape.level
    contexts = shape.contexts
    per = shape.per_context
    matches = shape.matches
    orders = shape.memory_orders
    inputs = shape.inputs
    sets = shape.sets
    squash = tables.squash
    stretch = tables.stretch
    reciprocal = tables.reciprocal
    slots = state.slots
    history_maps = state.history_maps
    run_maps = state.run_maps
    match_maps = state.match_maps
    memory_maps = state.memory_maps
    weights = state.weights
    final_weights = state.final_weights
    apm1 = state.apm_order1
    apm2 = state.apm_order2
    apm3 = state.apm_order3
    heads = state.match_heads
    reg = registers
    apm_mask = len(apm2) // 33 - 1
    last_line = len(slots) // 16 - 1
    head_mask = len(heads) // max(1, matches) - 1
    memory_lines = len(memory) // 16

    hashes = np.zeros(contexts + 32, np.int64)
    found_hash = np.zeros(contexts, np.int64)
    base = np.zeros(contexts, np.int64)
    root = np.zeros(contexts, np.int64)
    node_at = np.zeros(contexts, np.int64)
    cell_at = np.zeros(contexts, np.int64)
    run_byte = np.zeros(contexts, np.int64)
    run_cell = np.zeros(contexts, np.int64)
    x = np.zeros(inputs, np.int32)
    match_at = np.zeros(4, np.int64)
    match_length = np.zeros(4, np.int64)
    match_byte = np.zeros(4, np.int64)
    match_cell = np.zeros(4, np.int64)
    memory_hash = np.zeros(8, np.int64)
    memory_at = np.zeros(8, np.int64)
    memory_level = np.zeros(8 * 16, np.int64)
    memory_cell = np.zeros(8, np.int64)
    rows = np.zeros(8, np.int64)
    votes = np.zeros(8, np.int64)
    first_row = np.zeros(8, np.int64)
    first_row[1] = 256
    first_row[2] = 1280
    first_row[3] = 1536
    first_row[4] = 3584
    first_row[5] = 5632
    first_row[6] = 5888
    match_inputs = contexts * per
    bias = match_inputs + 2 * matches
    memory_inputs = bias + BIAS_INPUTS
    x[bias] = 256

    low = np.int64(0)
    high = np.int64(0xFFFFFFFF)
    code = np.int64(0)
    out = np.int64(0)
    capacity = len(coded)
    if direction == DECODE:
        for _ in range(4):
            code = code << 8 | (np.int64(coded[out]) if out < capacity else 0)
            out += 1

    for i in range(n):
        fill_contexts(level, data, i, reg, state.follow1, state.follow2, hashes)
        c1 = reg[_R.history] & 0xFF
        c2 = (reg[_R.history] >> 8) & 0xFF
        for m in range(matches):
            match_at[m], match_length[m] = advance_match(
                data, i, heads, m * (head_mask + 1), head_mask, _ORDERS[m], match_at[m], match_length[m]
            )
            match_byte[m] = np.int64(data[match_at[m]]) | 256 if match_length[m] > 0 else 0
        if orders > 0:
            memory_contexts(reg[_R.history], min(i, 8), reg[_R.word], reg[_R.word1], memory_hash)
        rate = shape.rate_floor + shape.rate_start // (1000 + i)
        apm_hash2 = fold(0x51, reg[_R.history] & 0xFFFF)
        apm_hash3 = fold(0x52, reg[_R.history] & 0xFFFFFF)
        partial = np.int64(1)
        byte = np.int64(data[i]) if direction == ENCODE else 0
        for bit in range(8):
            if bit == 0 or bit == 4:
                for j in range(contexts):
                    found_hash[j] = spread(hashes[j], partial)
                    prefetch(slots, (found_hash[j] & last_line) << 4)
                for k in range(orders):
                    memory_at[k] = spread(memory_hash[k], partial)
                    prefetch(memory, memory_line(memory_at[k], memory_lines))
                for j in range(contexts):
                    base[j] = find_line(slots, last_line, found_hash[j])
                if bit == 0 and per == 4:
                    for j in range(contexts):
                        root[j] = base[j]
                        word0 = np.int64(slots[base[j]])
                        run = word0 & 255
                        run_byte[j] = (word0 >> 8 & 255) | 256 if run > 0 else 0
                        run_cell[j] = j * RUN_CELLS + min(run, 31) * 2
                for k in range(orders):
                    recall_levels(memory, memory_lines, memory_hash[k], memory_at[k], memory_level, k * 16)
            # Rows of the final probability maps are far apart: asked for now, there when the mixer is done.
            a1 = (partial | c1 << 8) * 33
            a2 = (fold(apm_hash2, partial) >> 24 & apm_mask) * 33
            a3 = np.int64(0)
            prefetch(apm1, a1)
            prefetch(apm1, a1 + 32)
            prefetch(apm2, a2)
            prefetch(apm2, a2 + 32)
            if level >= 3:
                a3 = (fold(apm_hash3, partial) >> 24 & apm_mask) * 33
                prefetch(apm3, a3)
                prefetch(apm3, a3 + 32)
            node = partial if bit < 4 else (1 << (bit - 4)) | (partial & ((1 << (bit - 4)) - 1))
            seen = np.int64(0)
            for j in range(contexts):
                at = base[j] + node
                node_at[j] = at
                value = np.int64(slots[at])
                count = value & 255
                past = (value >> 8) & 255
                direct = np.int64(stretch[value >> 20])
                cell = past
                if count > 7:
                    cell = 256 + (((direct + 2048) >> 7) << 3) + (past & 7)
                cell += j * HISTORY_CELLS
                cell_at[j] = cell
                k = j * per
                if count == 0:
                    x[k] = 0
                    x[k + 1] = 0
                    if per == 4:
                        x[k + 2] = 0
                else:
                    seen += 1
                    p = np.int64(history_maps[cell]) >> 20
                    x[k] = direct if count > 2 else direct >> 1
                    x[k + 1] = stretch[p]
                    if per == 4:
                        x[k + 2] = (p - 2048) >> 1
                if per == 4:
                    x[k + 3] = 0
                    if run_byte[j] >> (8 - bit) == partial:
                        s = np.int64(stretch[np.int64(run_maps[run_cell[j] + (bit >> 2)]) >> 20])
                        x[k + 3] = s if run_byte[j] >> (7 - bit) & 1 else -s
            longest = np.int64(0)
            expected = np.int64(0)
            for m in range(matches):
                k = match_inputs + 2 * m
                x[k] = 0
                x[k + 1] = 0
                match_cell[m] = -1
                if match_length[m] > 0 and match_byte[m] >> (8 - bit) == partial:
                    cell = m * MATCH_CELLS + length_bucket(match_length[m]) * 4 + (bit >> 1)
                    match_cell[m] = cell
                    p = np.int64(match_maps[cell]) >> 20
                    s = np.int64(stretch[p])
                    t = (p - 2048) >> 2
                    if match_byte[m] >> (7 - bit) & 1:
                        x[k] = s
                        x[k + 1] = t
                    else:
                        x[k] = -s
                        x[k + 1] = -t
                    if match_length[m] > longest:
                        longest = match_length[m]
                        expected = match_byte[m] & 255
            remembered = np.int64(0)
            for k in range(orders):
                found = memory_level[k * 16 + node]
                cell = k * MEMORY_LEVELS + found
                memory_cell[k] = cell
                z = memory_inputs + 2 * k
                if found == 0:
                    x[z] = 0
                    x[z + 1] = 0
                else:
                    if k < 6:
                        remembered = k + 1
                    p = np.int64(memory_maps[cell]) >> 20
                    x[z] = stretch[p]
                    x[z + 1] = (p - 2048) >> 1
            tier = np.int64(0)
            if longest > 0:
                tier = 1 if longest < 8 else 2 if longest < 16 else 3 if longest < 32 else 4

            rows[0] = partial
            if level == 1:
                rows[0] |= tier << 8
            rows[1] = tier * 32 + min(seen, 31) + 256 * (remembered >> 1)
            if level >= 2:
                rows[2] = c1
                rows[3] = bit << 8 | c2
            if level >= 3:
                rows[4] = (reg[_R.classes] & 255) << 3 | bit
                rows[5] = expected
                rows[6] = (remembered << 3 | min(reg[_R.word_length], 7)) << 3 | bit
            for m in range(sets):
                rows[m] = (rows[m] + first_row[m]) * inputs
                votes[m] = dot(weights, rows[m], x, inputs)
            s = votes[0]
            s0 = s
            s1 = s
            f0 = partial * 8
            f1 = (256 + (tier << 6 | remembered << 3 | bit)) * 8
            if sets > 1:
                s0 = np.int64(0)
                s1 = np.int64(0)
                for m in range(sets):
                    s0 += votes[m] * final_weights[f0 + m]
                    s1 += votes[m] * final_weights[f1 + m]
                s0 = min(2047, max(-2047, s0 >> 16))
                s1 = min(2047, max(-2047, s1 >> 16))
                s = (s0 + s1) >> 1
            mixed = np.int64(squash[s + 2048])
            cell = (s + 2048) >> 7
            part = (s + 2048) & 127
            a1 += cell
            a2 += cell
            r1 = _refine(apm1, a1, part)
            r2 = _refine(apm2, a2, part)
            if level >= 3:
                a3 += cell
                r3 = _refine(apm3, a3, part)
                p = (2 * mixed + 2 * r1 + 2 * r2 + 2 * r3 + 4) >> 3
            else:
                p = (2 * mixed + r1 + r2 + 2) >> 2
            p = min(65536 - 16, max(16, p))

            y = (byte >> (7 - bit)) & 1
            width = high - low
            middle = low + (width >> 16) * p + ((width & 0xFFFF) * p >> 16)
            if direction == DECODE:
                y = np.int64(1) if code <= middle else np.int64(0)
            if y == 1:
                high = middle
            else:
                low = middle + 1
            while (low ^ high) & 0xFF000000 == 0:
                if direction == ENCODE:
                    if out + 8 > capacity:
                        return -1
                    coded[out] = high >> 24
                else:
                    code = (code << 8 & 0xFFFFFFFF) | (np.int64(coded[out]) if out < capacity else 0)
                out += 1
                low = low << 8 & 0xFFFFFFFF
                high = (high << 8 & 0xFFFFFFFF) | 255

            target = y << 16
            if sets > 1:
                e0 = ((target - np.int64(squash[s0 + 2048])) * 5) >> 6
                e1 = ((target - np.int64(squash[s1 + 2048])) * 5) >> 6
                for m in range(sets):
                    final_weights[f0 + m] += (votes[m] * e0 + 8192) >> 14
                    final_weights[f1 + m] += (votes[m] * e1 + 8192) >> 14
            for m in range(sets):
                error = (target - np.int64(squash[votes[m] + 2048])) * rate >> 10
                train(weights, rows[m], x, inputs, error)
            near = part >> 6
            _nudge(apm1, a1 + near, y, 6)
            _nudge(apm2, a2 + near, y, 6)
            if level >= 3:
                _nudge(apm3, a3 + near, y, 6)
            for m in range(matches):
                if match_cell[m] >= 0:
                    hit = np.int64(match_byte[m] >> (7 - bit) & 1 == y)
                    _learn(match_maps, match_cell[m], hit, 1023, 0, reciprocal)
            for k in range(orders):
                if memory_cell[k] != k * MEMORY_LEVELS:
                    _learn(memory_maps, memory_cell[k], y, 1000, 20, reciprocal)
            for j in range(contexts):
                at = node_at[j]
                value = np.int64(slots[at])
                count = value & 255
                past = (value >> 8) & 255
                p = value >> 16
                p += ((65535 * y - p) * np.int64(reciprocal[count])) >> 16
                if count < (250 if j < 2 else 127):
                    count += 1
                past = past << 1 | y if past < 128 else ((past << 1 | y) & 127) | 128
                slots[at] = p << 16 | past << 8 | count
                _learn(history_maps, cell_at[j], y, 500, 6, reciprocal)
                if per == 4 and run_byte[j] >> (8 - bit) == partial:
                    hit = np.int64(run_byte[j] >> (7 - bit) & 1 == y)
                    _learn(run_maps, run_cell[j] + (bit >> 2), hit, 1000, 6, reciprocal)
            partial = partial << 1 | y
        c = partial & 255
        data[i] = c
        if per == 4:
            for j in range(contexts):
                word0 = np.int64(slots[root[j]])
                if (word0 >> 8 & 255) == c and word0 & 255 > 0:
                    word0 += np.int64(word0 & 255 < 255)
                else:
                    word0 = word0 & 0xFFFF0000 | c << 8 | 1
                slots[root[j]] = word0
        update_registers(level, data, i, c, reg, state.follow1, state.follow2)
    if direction == ENCODE:
        if out + 8 > capacity:
            return -1
        coded[out] = high >> 24
        coded[out + 1] = high >> 16 & 255
        coded[out + 2] = high >> 8 & 255
        coded[out + 3] = high & 255
        out += 4
    return out
