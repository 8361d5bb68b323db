"""The block coder: predicts every bit from the mixed contexts and codes it, in integers throughout.

One function serves both directions, so that encoder and decoder cannot drift apart. Its parts live in the modules
imported below and become one native function.
"""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import compiled_in_place, merged
from .bit_coder import DECODE, ENCODE, code_bit, finish, start
from .context_inputs import context_inputs, find_lines, learn_contexts, learn_runs, prefetch_lines
from .contexts import Register, fill_contexts, update_registers
from .final_maps import map_rows, nudge_maps, refined
from .match_model import advance_matches, learn_matches, match_inputs
from .memory_inputs import learn_memory, memory_inputs, prefetch_memory, recall_nibble
from .mixer import final_votes, set_votes, train_final, train_sets
from .recall import memory_contexts

__all__ = ["DECODE", "ENCODE", "code_block"]

_R = Register()


@merged
def _begin_byte(shape, state, work, reg, data, i):  # type: ignore[no-untyped-def]
    """Everything that depends on whole bytes: contexts of the table and of the memory, matches."""
    fill_contexts(shape.level, data, i, reg, state.follow1, state.follow2, work.hashes)
    advance_matches(shape, state, work, data, i)
    if shape.memory_orders > 0:
        memory_contexts(reg[_R.history], min(i, 8), reg[_R.word], reg[_R.word1], work.memory_hash)


@merged
def _begin_nibble(shape, state, memory, work, partial, bit):  # type: ignore[no-untyped-def]
    """The lines of the nibble: all of them are asked for before the first is looked at."""
    prefetch_lines(shape, state, work, partial)
    prefetch_memory(shape, memory, work, partial)
    find_lines(shape, state, work, bit)
    recall_nibble(shape, memory, work)


@merged
def _tier(length):  # type: ignore[no-untyped-def]
    """How far a match of ``length`` is to be trusted, 0 for none."""
    if length == 0:
        return np.int64(0)
    return np.int64(1 if length < 8 else 2 if length < 16 else 3 if length < 32 else 4)


@merged
def _choose_rows(shape, work, reg, partial, bit, seen, tier, expected, remembered):  # type: ignore[no-untyped-def]
    """Each weight set's row: what its selecting context is now."""
    rows = work.rows
    rows[0] = partial
    if shape.level == 1:
        rows[0] |= tier << 8
    rows[1] = tier * 32 + min(seen, 31) + 256 * (remembered >> 1)
    if shape.level >= 2:
        rows[2] = reg[_R.history] & 0xFF
        rows[3] = bit << 8 | (reg[_R.history] >> 8 & 0xFF)
    if shape.level >= 3:
        rows[4] = (reg[_R.classes] & 255) << 3 | bit
        rows[5] = expected
        rows[6] = (remembered << 3 | min(reg[_R.word_length], 7)) << 3 | bit


@merged
def _code_next(  # type: ignore[no-untyped-def]
    direction, coded, shape, tables, state, work, reg, rate, partial, bit, y
):
    """Predict one bit, code it (``y`` is it when encoding) and learn from it; return it, or -1 for lack of room."""
    map_row = map_rows(shape.level, state, reg[_R.history], partial)
    node = partial if bit < 4 else (1 << (bit - 4)) | (partial & ((1 << (bit - 4)) - 1))
    seen = context_inputs(shape, state, tables, work, node, partial, bit)
    longest, expected = match_inputs(shape, state, tables, work, partial, bit)
    remembered = memory_inputs(shape, state, tables, work, node)
    tier = _tier(longest)
    _choose_rows(shape, work, reg, partial, bit, seen, tier, expected, remembered)
    set_votes(shape, state, work)
    final_row = 256 + (tier << 6 | remembered << 3 | bit)
    s0, s1 = final_votes(shape, state, work, partial, final_row)
    s = (s0 + s1) >> 1
    p = refined(shape.level, state, map_row, s, np.int64(tables.squash[s + 2048]))

    y = code_bit(direction, coded, work.coder, p, y)
    if y < 0:
        return y

    target = y << 16
    train_final(shape, state, tables, work, partial, s0, target)
    train_final(shape, state, tables, work, final_row, s1, target)
    train_sets(shape, state, tables, work, rate, target)
    nudge_maps(shape.level, state, map_row, s, y)
    learn_matches(shape, state, tables, work, bit, y)
    learn_memory(shape, state, tables, work, y)
    learn_contexts(shape, state, tables, work, partial, bit, y)
    return y


@compiled_in_place
def code_block(direction, data, n, coded, shape, tables, state, memory, registers, work):  # type: ignore[no-untyped-def]
    """Code ``data[:n]`` into ``coded``, or decode ``coded`` into ``data[:n]``.

    Returns the coded size in bytes, or -1 when ``coded`` is too small to hold it (encoding only).
    """
    reg = registers
    work.inputs[shape.contexts * shape.per_context + 2 * shape.matches] = 256
    start(direction, coded, work.coder)
    for i in range(n):
        _begin_byte(shape, state, work, reg, data, i)
        rate = shape.rate_floor + shape.rate_start // (1000 + i)
        partial = np.int64(1)
        byte = np.int64(data[i]) if direction == ENCODE else np.int64(0)
        for bit in range(8):
            if bit == 0 or bit == 4:
                _begin_nibble(shape, state, memory, work, partial, bit)
            y = _code_next(direction, coded, shape, tables, state, work, reg, rate, partial, bit, byte >> (7 - bit) & 1)
            if y < 0:
                return y
            partial = partial << 1 | y
        c = partial & 255
        data[i] = c
        learn_runs(shape, state, work, c)
        update_registers(shape.level, data, i, c, reg, state.follow1, state.follow2)
    return finish(direction, coded, work.coder)
