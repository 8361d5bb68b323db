"""The inputs from the context table: for each context the node of this bit, its history and its run."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged
from .adaptive_maps import learn
from .hashing import find_line, spread
from .model_state import HISTORY_CELLS, RUN_CELLS
from .prefetching import prefetch

__all__ = ["context_inputs", "find_lines", "learn_contexts", "learn_runs", "prefetch_lines"]


@merged
def prefetch_lines(shape, state, work, partial):  # type: ignore[no-untyped-def]
    """Hash each context with the nibble begun, and ask for its line."""
    last_line = len(state.slots) // 16 - 1
    for j in range(shape.contexts):
        work.line_hash[j] = spread(work.hashes[j], partial)
        prefetch(state.slots, (work.line_hash[j] & last_line) << 4)


@merged
def find_lines(shape, state, work, bit):  # type: ignore[no-untyped-def]
    """Find or claim the line of each context; at a byte's beginning note the byte that ran there so far."""
    slots = state.slots
    last_line = len(slots) // 16 - 1
    for j in range(shape.contexts):
        work.line[j] = find_line(slots, last_line, work.line_hash[j])
    if bit == 0 and shape.per_context == 4:
        for j in range(shape.contexts):
            work.root[j] = work.line[j]
            word0 = np.int64(slots[work.line[j]])
            run = word0 & 255
            work.run_byte[j] = (word0 >> 8 & 255) | 256 if run > 0 else 0
            work.run_cell[j] = j * RUN_CELLS + min(run, 31) * 2


@merged
def context_inputs(shape, state, tables, work, node, partial, bit):  # type: ignore[no-untyped-def]
    """Set the inputs of every context for the bit at ``node`` of its nibble; return how many have seen it before."""
    per = shape.per_context
    stretch = tables.stretch
    x = work.inputs
    seen = np.int64(0)
    for j in range(shape.contexts):
        at = work.line[j] + node
        work.node_at[j] = at
        value = np.int64(state.slots[at])
        count = value & 255
        past = (value >> 8) & 255
        direct = np.int64(stretch[value >> 20])
        cell = past
        if count > 7:
            cell = 256 + (((direct + 2048) >> 7) << 3) + (past & 7)
        cell += j * HISTORY_CELLS
        work.cell_at[j] = cell
        k = j * per
        if count == 0:
            x[k] = 0
            x[k + 1] = 0
            if per == 4:
                x[k + 2] = 0
        else:
            seen += 1
            p = np.int64(state.history_maps[cell]) >> 20
            x[k] = direct if count > 2 else direct >> 1
            x[k + 1] = stretch[p]
            if per == 4:
                x[k + 2] = (p - 2048) >> 1
        if per == 4:
            x[k + 3] = 0
            if work.run_byte[j] >> (8 - bit) == partial:
                s = np.int64(stretch[np.int64(state.run_maps[work.run_cell[j] + (bit >> 2)]) >> 20])
                x[k + 3] = s if work.run_byte[j] >> (7 - bit) & 1 else -s
    return seen


@merged
def learn_contexts(shape, state, tables, work, partial, bit, y):  # type: ignore[no-untyped-def]
    """Move every context's node, the map of its history and the map of its run towards the bit ``y``."""
    slots = state.slots
    reciprocal = tables.reciprocal
    for j in range(shape.contexts):
        at = work.node_at[j]
        value = np.int64(slots[at])
        count = value & 255
        past = (value >> 8) & 255
        p = value >> 16
        p += ((65535 * y - p) * np.int64(reciprocal[count])) >> 16
        if count < (250 if j < 2 else 127):
            count += 1
        past = past << 1 | y if past < 128 else ((past << 1 | y) & 127) | 128
        slots[at] = p << 16 | past << 8 | count
        learn(state.history_maps, work.cell_at[j], y, 500, 6, reciprocal)
        if shape.per_context == 4 and work.run_byte[j] >> (8 - bit) == partial:
            hit = np.int64(work.run_byte[j] >> (7 - bit) & 1 == y)
            learn(state.run_maps, work.run_cell[j] + (bit >> 2), hit, 1000, 6, reciprocal)


@merged
def learn_runs(shape, state, work, c):  # type: ignore[no-untyped-def]
    """Note the byte ``c`` in each context's root line: once more, or a new run of one."""
    if shape.per_context != 4:
        return
    slots = state.slots
    for j in range(shape.contexts):
        word0 = np.int64(slots[work.root[j]])
        if (word0 >> 8 & 255) == c and word0 & 255 > 0:
            word0 += np.int64(word0 & 255 < 255)
        else:
            word0 = word0 & 0xFFFF0000 | c << 8 | 1
        slots[work.root[j]] = word0
