"""Logistic mixing in 32-bit integers: weight sets selected by context, and a final mixer over them.

Weights are 16.16 fixed point and bounded to +-8, inputs and outputs are stretched probabilities in
[-2047, 2047]; with at most 256 inputs every partial sum fits 32 bits (2^19 * 2^11 / 2^8 * 2^8 < 2^31).
Unsigned indices spare the test for negative ones.
"""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import merged

__all__ = ["final_votes", "set_votes", "train_final", "train_sets"]

# Eight weights a row of the final mixers: one for each set, one unused.
_FINAL_ROW = 8


@merged
def _dot(weights, row, inputs, count):  # type: ignore[no-untyped-def]
    """Weighted sum of ``count`` inputs with the weights from ``row`` on, clipped to the stretch range."""
    total = np.int32(0)
    first = np.uint64(row)
    for z in range(np.uint64(count)):
        total = np.int32(total + np.int32(np.int32(weights[first + z] * inputs[z]) >> 8))
    return min(2047, max(-2047, np.int64(total) >> 8))


@merged
def _train(weights, row, inputs, count, step):  # type: ignore[no-untyped-def]
    """Gradient step: ``step`` is the scaled coding error, |step| < 2^19; rounds to nearest."""
    step = np.int32(step)
    first = np.uint64(row)
    for z in range(np.uint64(count)):
        change = np.int32(np.int32(np.int32(inputs[z] * step) + np.int32(512)) >> 10)
        moved = np.int32(weights[first + z] + change)
        weights[first + z] = min(np.int32(524287), max(np.int32(-524288), moved))


@merged
def set_votes(shape, state, work):  # type: ignore[no-untyped-def]
    """What each weight set makes of the inputs, from the row its context chose (``work.rows``, made an offset here)."""
    for m in range(shape.sets):
        work.rows[m] = (work.rows[m] + work.first_row[m]) * shape.inputs
        work.votes[m] = _dot(state.weights, work.rows[m], work.inputs, shape.inputs)


@merged
def final_votes(shape, state, work, row0, row1):  # type: ignore[no-untyped-def]
    """The two final mixers' stretched probabilities, from rows ``row0`` and ``row1``; one set needs no mixer."""
    if shape.sets == 1:
        return work.votes[0], work.votes[0]
    s0 = np.int64(0)
    s1 = np.int64(0)
    for m in range(shape.sets):
        s0 += work.votes[m] * state.final_weights[row0 * _FINAL_ROW + m]
        s1 += work.votes[m] * state.final_weights[row1 * _FINAL_ROW + m]
    return min(2047, max(-2047, s0 >> 16)), min(2047, max(-2047, s1 >> 16))


@merged
def train_final(shape, state, tables, work, row, s, target):  # type: ignore[no-untyped-def]
    """Move one row of a final mixer, which said ``s``, towards ``target`` (0 or 65,536)."""
    if shape.sets == 1:
        return
    error = ((target - np.int64(tables.squash[s + 2048])) * 5) >> 6
    for m in range(shape.sets):
        state.final_weights[row * _FINAL_ROW + m] += (work.votes[m] * error + 8192) >> 14


@merged
def train_sets(shape, state, tables, work, rate, target):  # type: ignore[no-untyped-def]
    """Move the chosen row of each weight set by its own error."""
    for m in range(shape.sets):
        error = (target - np.int64(tables.squash[work.votes[m] + 2048])) * rate >> 10
        _train(state.weights, work.rows[m], work.inputs, shape.inputs, error)
