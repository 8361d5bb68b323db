"""The n-gram memory in a model file: how many slots each line fills, and those slots one after another.

In memory every line has 16 slots, so that it is found by one multiplication; a quarter of them are empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_packed_memory", "pack_memory", "unpack_memory"]

_LINE = 16
_LEAST_SLOT = 1 << 12


def pack_memory(memory: NDArray[np.uint16]) -> dict[str, NDArray[np.generic]]:
    """Tensors ``memory_counts`` (uint8, a line each) and ``memory_slots`` (uint16) of a memory of lines of 16 slots."""
    lines = memory.reshape(-1, _LINE)
    filled = lines != 0
    return {"memory_counts": filled.sum(axis=1).astype(np.uint8), "memory_slots": lines[filled]}


def check_packed_memory(counts: NDArray[np.generic], slots: NDArray[np.generic]) -> None:
    """Raise :class:`ValueError` unless the tensors are those of a packed memory."""
    if counts.dtype != np.uint8 or counts.ndim != 1 or not len(counts) or int(counts.max()) > _LINE:
        raise ValueError("memory_counts is not a row of uint8 from 0 to 16")
    if slots.dtype != np.uint16 or slots.shape != (int(counts.sum(dtype=np.int64)),):
        raise ValueError("memory_slots is not uint16 with as many slots as memory_counts says")
    if len(slots) and int(slots.min()) < _LEAST_SLOT:
        raise ValueError("memory_slots holds a slot of no node")


def unpack_memory(counts: NDArray[np.generic], slots: NDArray[np.generic]) -> NDArray[np.uint16]:
    """The memory of :func:`pack_memory`, checked before; a line's slots come first, zeros after them."""
    memory = np.zeros((len(counts), _LINE), np.uint16)
    memory[np.arange(_LINE) < counts.astype(np.int64)[:, np.newaxis]] = slots
    return memory.reshape(-1)
