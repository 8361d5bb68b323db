"""The mutable state of the context-mixing model: one tuple of arrays, sized by a preset.

A node is a uint32: 16-bit probability, 8-bit bit history, 8-bit count. A line is 16 words (64 bytes):
word 0 holds a 16-bit check, the last byte seen in that context and how often it repeated; words 1-15
are the nodes of one nibble's binary tree.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .logistic import logistic_tables
from .presets import Preset

__all__ = [
    "BIAS_INPUTS",
    "HISTORY_CELLS",
    "MATCH_CELLS",
    "MEMORY_LEVELS",
    "RUN_CELLS",
    "ModelState",
    "Shape",
    "allocate_state",
    "first_rows",
    "input_count",
    "model_shape",
    "selector_rows",
]

HISTORY_CELLS = 512
RUN_CELLS = 64
MATCH_CELLS = 256
MEMORY_LEVELS = 33
BIAS_INPUTS = 6
_APM_CELLS = 33
_NEW_NODE = 0x80000100


class Shape(NamedTuple):
    """Sizes the compiled coder needs as plain integers (all int64 in native code)."""

    level: int
    contexts: int
    per_context: int
    matches: int
    memory_orders: int
    inputs: int
    sets: int
    rate_floor: int
    rate_start: int


class ModelState(NamedTuple):
    """Everything a block's coder reads and writes; see the module docstring for the layouts."""

    slots: NDArray[np.uint32]
    history_maps: NDArray[np.uint32]
    run_maps: NDArray[np.uint32]
    match_maps: NDArray[np.uint32]
    memory_maps: NDArray[np.uint32]
    weights: NDArray[np.int32]
    final_weights: NDArray[np.int32]
    apm_order1: NDArray[np.uint16]
    apm_order2: NDArray[np.uint16]
    apm_order3: NDArray[np.uint16]
    match_heads: NDArray[np.int32]
    follow1: NDArray[np.int64]
    follow2: NDArray[np.int64]


def input_count(preset: Preset, memory_orders: int) -> int:
    """Mixer inputs of a preset, padded to a multiple of 16 for the vector units."""
    used = preset.contexts * preset.per_context + 2 * preset.matches + BIAS_INPUTS
    used += 2 * memory_orders
    return -(-used // 16) * 16


def selector_rows(level: int) -> tuple[int, ...]:
    """Rows of each weight set: how many values its selecting context can take."""
    if level == 1:
        return (2048,)
    if level == 2:
        return (256, 1024, 256, 2048)
    return (256, 1024, 256, 2048, 2048, 256, 2048)


def first_rows(level: int) -> tuple[int, ...]:
    """Where the rows of each weight set begin among those of all."""
    return tuple(accumulate(selector_rows(level)[:-1], initial=0))


def model_shape(preset: Preset, memory_orders: int, *, primed: bool) -> Shape:
    """The integer parameters the compiled coder is called with."""
    return Shape(
        level=preset.level,
        contexts=preset.contexts,
        per_context=preset.per_context,
        matches=preset.matches,
        memory_orders=memory_orders,
        inputs=input_count(preset, memory_orders),
        sets=len(selector_rows(preset.level)),
        rate_floor=preset.rate_floor,
        rate_start=preset.primed_rate_start if primed else preset.rate_start,
    )


def _history_prior() -> NDArray[np.uint32]:
    """Initial probability of a one after each 7-bit history or quantised probability cell."""
    tables = logistic_tables()
    cells = np.zeros(HISTORY_CELLS, np.int64)
    cells[:2] = 32768
    for history in range(2, 256):
        length = history.bit_length() - 1
        # Older bits count three quarters of the bit after them; scaled by 4^7 to stay exact.
        weight = 4 * 4**7
        ones, total = 2 * 4**7, 4 * 4**7
        for k in range(length):
            ones += weight * ((history >> k) & 1)
            total += weight
            weight = weight * 3 // 4
        cells[history] = 65536 * ones // total
    for cell in range(256):
        cells[256 + cell] = tables.squash[(cell >> 3) * 128 + 64]
    cells = np.clip(cells, 32, 65503)
    return ((cells << 16) | 0).astype(np.uint32)


def allocate_state(preset: Preset, memory_orders: int, size: int) -> ModelState:
    """Fresh, untrained state for a block of ``size`` bytes: the same on every machine.

    A small block gets a small context table, so that it starts fast; the table never exceeds the preset's.
    """
    tables = logistic_tables()
    lines = 1 << min(preset.line_bits, max(12, (size * preset.contexts * 3).bit_length()))
    raw = np.zeros(lines * 16 + 16, np.uint32)
    offset = (-raw.ctypes.data // 4) % 16
    slots = raw[offset : offset + lines * 16]

    history_maps = np.tile(_history_prior(), preset.contexts)
    run = np.arange(RUN_CELLS, dtype=np.int64)
    run_prior = 65536 - 65536 // (run // 2 + 3)
    run_maps = np.tile((run_prior << 16).astype(np.uint32), preset.contexts)
    length = np.arange(64, dtype=np.int64)
    match_prior = np.repeat(65536 - 65536 // (length + 2), MATCH_CELLS // 64)
    match_maps = np.tile((match_prior << 16).astype(np.uint32), max(1, preset.matches))
    levels = np.zeros(MEMORY_LEVELS, np.int64)
    levels[0] = 32768
    levels[1:] = tables.squash[2048 + np.arange(32) * 100 - 1550]
    memory_maps = np.tile((levels << 16).astype(np.uint32), max(1, memory_orders))

    inputs = input_count(preset, memory_orders)
    row = np.zeros(inputs, np.int32)
    share = preset.initial_weight
    row[: preset.contexts * preset.per_context] = share
    row[preset.contexts * preset.per_context :][: 2 * preset.matches : 2] = 20000
    memory_start = preset.contexts * preset.per_context + 2 * preset.matches + BIAS_INPUTS
    row[memory_start : memory_start + 2 * memory_orders : 2] = 12000
    rows = selector_rows(preset.level)
    weights = np.tile(row, sum(rows))
    final_weights = np.full((256 + 2048) * 8, 65536 // len(rows), np.int32)

    curve = tables.squash[np.clip((np.arange(_APM_CELLS) - 16) * 128, -2047, 2047) + 2048]
    curve = np.clip(curve, 16, 65520).astype(np.uint16)
    hashed = np.tile(curve, 1 << preset.apm_bits)
    return ModelState(
        slots=slots,
        history_maps=history_maps,
        run_maps=run_maps,
        match_maps=match_maps,
        memory_maps=memory_maps,
        weights=weights,
        final_weights=final_weights,
        apm_order1=np.tile(curve, 65536),
        apm_order2=hashed,
        apm_order3=hashed.copy() if preset.level >= 3 else curve.copy(),
        match_heads=np.zeros(max(1, preset.matches) << preset.match_bits, np.int32),
        follow1=np.zeros(256, np.int64),
        follow2=np.zeros(65536, np.int64),
    )
