"""Look-ups in the trained n-gram memory: quantised predictions for the contexts it holds.

The memory is an array of lines of 16 slots. A slot is a uint16: 4-bit node of the nibble tree (1-15),
7-bit check, 5-bit level (a quantised log odds). Zero is an empty slot.
"""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged
from .hashing import fold

__all__ = ["LEVEL_STEP", "LOWEST_LEVEL", "MEMORY_ORDERS", "memory_contexts", "memory_line", "recall_levels"]

MEMORY_ORDERS = 8
# A level is a stretched probability: LOWEST_LEVEL + level * LEVEL_STEP.
LOWEST_LEVEL = -1550
LEVEL_STEP = 100


@merged
def memory_contexts(history, known, word, word1, out):  # type: ignore[no-untyped-def]
    """Hashes of the memory's contexts: orders 1 to 6, the word so far, and it with the word before.

    ``known`` is how many bytes of history exist; contexts that reach further back are set to 0.
    """
    for order in range(1, 7):
        if order > known:
            out[order - 1] = 0
        else:
            out[order - 1] = fold(0x4D31 + order, history & ((1 << (8 * order)) - 1))
    out[6] = fold(fold(0x4D3A, word), history & 0xFF) if known > 0 else 0
    out[7] = fold(fold(0x4D3B, word), word1) if known > 0 and word1 != 0 else 0


@merged
def memory_line(h, lines):  # type: ignore[no-untyped-def]
    """First slot of the line that a context's hash ``h`` (from ``spread``) selects."""
    return (((h >> 8) & 0xFFFFFFFF) * lines >> 32) << 4


@merged
def recall_levels(memory, lines, context, h, levels, base):  # type: ignore[no-untyped-def]
    """Fill ``levels[base + 1 : base + 16]`` with 0 (absent) or level + 1 for one nibble.

    ``h`` is ``spread(context, node)``; a ``context`` of 0 is unknown and recalls nothing.
    """
    for z in range(16):
        levels[base + z] = 0
    if context == 0:
        return
    line = memory_line(h, lines)
    check = (h >> 44) & 127
    for z in range(16):
        slot = np.int64(memory[line + z])
        if ((slot >> 5) & 127) == check and slot >> 12 != 0:
            levels[base + (slot >> 12)] = (slot & 31) + 1
