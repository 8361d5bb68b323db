"""Windows of 16 bits with full reset are a dictionary: every window the model can make, by its number."""

from __future__ import annotations

import numpy as np

from ....entropy.native_compilation import compiled
from .context_model import ContextModel, predict
from .interval import allocate
from .strings import StringTable, string_table

__all__ = ["window_dictionary"]


@compiled
def _enumerate(model, bits, ends, pool):  # type: ignore[no-untyped-def]
    """Write the strings one after another to ``pool``, in the order of their numbers; return their total length."""
    deepest = 4096
    shares = np.empty(256, np.uint64)
    frequency = np.empty(256, np.int64)
    points = np.zeros((deepest, 256), np.int64)
    following = np.zeros(deepest, np.int64)
    string = np.zeros(deepest, np.uint8)
    predict(model, string, 0, 0, True, shares, frequency)
    allocate(frequency, (1 << bits) - 1, True, points[0])
    depth = 0
    number = 1  # number 0 is the window that stops before its first byte
    size = 0
    while depth >= 0:
        y = following[depth]
        while y < 256 and points[depth, y] == 0:
            y += 1
        if y == 256:
            depth -= 1
            continue
        following[depth] = y + 1
        string[depth] = y
        depth += 1
        if size + depth > len(pool):
            return -1
        pool[size : size + depth] = string[:depth]
        size += depth
        ends[number] = size
        number += 1
        units = points[depth - 1, y] - 1
        if units > 0:
            predict(model, string, 0, depth, True, shares, frequency)
            allocate(frequency, units, False, points[depth])
            following[depth] = 0
        else:
            points[depth] = 0
            following[depth] = 0
    return size


def window_dictionary(model: ContextModel, bits: int = 16) -> StringTable:
    """The strings of all windows of ``bits`` <= 16 after a reset, sorted; string 0 is empty: no encoder makes it."""
    ends = np.zeros(1 << bits, np.int64)
    pool = np.empty(1 << 22, np.uint8)
    size = int(_enumerate(model, bits, ends, pool))
    if size < 0:
        raise ValueError("the model's windows are longer than any text would make them")
    starts = np.concatenate([[0], ends[:-1]])
    strings = [pool[a:b].tobytes() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    return string_table(strings)
