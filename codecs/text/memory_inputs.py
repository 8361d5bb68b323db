"""The inputs from the n-gram memory: what each of its orders recalls for this bit, through maps that keep adapting."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged
from .adaptive_maps import learn
from .hashing import spread
from .model_state import BIAS_INPUTS, MEMORY_LEVELS
from .prefetching import prefetch
from .recall import memory_line, recall_levels

__all__ = ["learn_memory", "memory_inputs", "prefetch_memory", "recall_nibble"]

_NIBBLE_NODES = 16
# Orders 1 to 6 come first; the two of words say nothing about how far back the memory knows the text.
_BYTE_ORDERS = 6


@merged
def prefetch_memory(shape, memory, work, partial):  # type: ignore[no-untyped-def]
    """Hash each order's context with the nibble begun, and ask for its line."""
    lines = len(memory) // _NIBBLE_NODES
    for k in range(shape.memory_orders):
        work.memory_at[k] = spread(work.memory_hash[k], partial)
        prefetch(memory, memory_line(work.memory_at[k], lines))


@merged
def recall_nibble(shape, memory, work):  # type: ignore[no-untyped-def]
    """Look up every order's levels for the nibble's nodes."""
    lines = len(memory) // _NIBBLE_NODES
    for k in range(shape.memory_orders):
        recall_levels(memory, lines, work.memory_hash[k], work.memory_at[k], work.memory_level, k * _NIBBLE_NODES)


@merged
def memory_inputs(shape, state, tables, work, node):  # type: ignore[no-untyped-def]
    """Set the inputs of every order for the bit at ``node``; return the longest of 1 to 6 bytes that knows it."""
    x = work.inputs
    first = shape.contexts * shape.per_context + 2 * shape.matches + BIAS_INPUTS
    remembered = np.int64(0)
    for k in range(shape.memory_orders):
        found = work.memory_level[k * _NIBBLE_NODES + node]
        cell = k * MEMORY_LEVELS + found
        work.memory_cell[k] = cell
        z = first + 2 * k
        if found == 0:
            x[z] = 0
            x[z + 1] = 0
        else:
            if k < _BYTE_ORDERS:
                remembered = k + 1
            p = np.int64(state.memory_maps[cell]) >> 20
            x[z] = tables.stretch[p]
            x[z + 1] = (p - 2048) >> 1
    return remembered


@merged
def learn_memory(shape, state, tables, work, y):  # type: ignore[no-untyped-def]
    """Move the map of each level that was recalled towards the bit ``y``."""
    for k in range(shape.memory_orders):
        if work.memory_cell[k] != k * MEMORY_LEVELS:
            learn(state.memory_maps, work.memory_cell[k], y, 1000, 20, tables.reciprocal)
