"""The byte model of the windows: counts of contexts, pruned and rounded to integers.

The prediction for the next byte starts at the longest known context and works towards the empty one. A context gives
its few weighted bytes their weights and passes what is left of the whole to the next shorter context; the empty context
divides the rest among all bytes. Every step is a product of integers, so that the frequencies are the same everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled, inlined

__all__ = ["FREQUENCY_BITS", "ContextModel", "context_model", "frequencies", "predict"]

FREQUENCY_BITS = 16
"""Frequencies of a prediction sum to 2 to this power, each at least 1."""

_DEEPEST = 32
_RESET = 256


class ContextModel(NamedTuple):
    """Arrays of the model as the native code takes them.

    The children of context c have the numbers ``first_child[c]`` to ``first_child[c + 1]``, by rising ``symbol`` (a
    byte before the context, or 256: the model was reset there). ``entry_start`` does the same for its weighted bytes.
    ``escape[c]`` is what the weights of c leave of 65,536. ``root`` sums to 65,536.
    """

    first_child: NDArray[np.uint32]
    symbol: NDArray[np.uint16]
    entry_start: NDArray[np.uint32]
    entry_byte: NDArray[np.uint8]
    entry_weight: NDArray[np.uint16]
    escape: NDArray[np.uint32]
    root: NDArray[np.uint32]


def context_model(
    child_counts: NDArray[np.int64],
    symbols: NDArray[np.int16],
    entry_counts: NDArray[np.int64],
    entry_bytes: NDArray[np.uint8],
    entry_weights: NDArray[np.uint16],
    root: NDArray[np.uint32],
) -> ContextModel:
    """Assemble a model from breadth-first columns; ``symbols[0]`` belongs to the empty context and means nothing.

    Raises ``ValueError`` where the columns disagree or weights leave nothing.
    """
    contexts = len(child_counts)
    first_child = 1 + np.concatenate([np.zeros(1, np.int64), np.cumsum(child_counts)])
    entry_start = np.concatenate([np.zeros(1, np.int64), np.cumsum(entry_counts)])
    if first_child[-1] != contexts or len(symbols) != contexts or len(entry_counts) != contexts:
        raise ValueError(f"{contexts:,} contexts have {int(first_child[-1]) - 1:,} children")
    if (first_child[:-1] <= np.arange(contexts)).any():
        raise ValueError("a context comes before its parent")
    if entry_start[-1] != len(entry_bytes) or len(entry_bytes) != len(entry_weights):
        raise ValueError("the weighted bytes of all contexts do not add up")
    if len(root) != 256 or int(root.sum(dtype=np.int64)) != 1 << 16 or int(root.min()) < 1:
        raise ValueError("the prediction of the empty context does not sum to 65,536")
    sums = np.zeros(len(entry_weights) + 1, np.int64)
    np.cumsum(entry_weights, out=sums[1:], dtype=np.int64)
    escape = (1 << 16) - (sums[entry_start[1:]] - sums[entry_start[:-1]])
    if escape.min() < 1:
        raise ValueError("the weights of a context leave nothing for the next shorter one")
    return ContextModel(
        first_child.astype(np.uint32),
        symbols.astype(np.uint16),
        entry_start.astype(np.uint32),
        np.ascontiguousarray(entry_bytes),
        entry_weights.astype(np.uint16),
        escape.astype(np.uint32),
        root.astype(np.uint32),
    )


@inlined
def _child(model, context, symbol):  # type: ignore[no-untyped-def]
    """The child of ``context`` for ``symbol``, or 0."""
    low = np.int64(model.first_child[context])
    high = np.int64(model.first_child[context + 1])
    while low < high:
        middle = (low + high) >> 1
        if model.symbol[middle] < symbol:
            low = middle + 1
        else:
            high = middle
    if low < np.int64(model.first_child[context + 1]) and model.symbol[low] == symbol:
        return low
    return np.int64(0)


@compiled
def predict(model, data, start, position, after_reset, shares, frequency):  # type: ignore[no-untyped-def]
    """Set ``frequency`` [256] (int64) for the byte at ``position``, knowing the bytes from ``start`` on.

    ``after_reset`` says that the model knows of no byte before ``start`` and was reset there. ``shares`` [256] is
    uint64 scratch space.
    """
    path = np.empty(_DEEPEST, np.int64)
    depth = 0
    context = np.int64(0)
    i = position - 1
    while depth < _DEEPEST - 1:
        if i >= start:
            context = _child(model, context, np.int64(data[i]))
        elif i == start - 1 and after_reset:
            context = _child(model, context, np.int64(_RESET))
        else:
            break
        if context == 0:
            break
        path[depth] = context
        depth += 1
        i -= 1
    shares[:] = 0
    rest = np.uint64(1 << 32)
    for k in range(depth - 1, -1, -1):
        context = path[k]
        for e in range(model.entry_start[context], model.entry_start[context + 1]):
            shares[model.entry_byte[e]] += rest * np.uint64(model.entry_weight[e]) >> np.uint64(16)
        rest = rest * np.uint64(model.escape[context]) >> np.uint64(16)
    total = np.int64(0)
    most = np.int64(0)
    for y in range(256):
        share = shares[y] + (rest * np.uint64(model.root[y]) >> np.uint64(16))
        value = np.int64(1) + np.int64(share * np.uint64(65536 - 256) >> np.uint64(32))
        frequency[y] = value
        total += value
        most = max(most, value)
    for y in range(256):
        if frequency[y] == most:
            frequency[y] += 65536 - total
            break


def frequencies(model: ContextModel, window: bytes, *, after_reset: bool = True) -> NDArray[np.int64]:
    """Frequencies [256] of the byte after ``window``; they sum to 65,536 and none is 0."""
    data = np.frombuffer(window, np.uint8)
    result = np.empty(256, np.int64)
    predict(model, data, 0, len(data), after_reset, np.empty(256, np.uint64), result)
    return result
