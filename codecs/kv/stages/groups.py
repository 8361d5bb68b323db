"""Asymmetric round-to-nearest quantisation in groups: the quantiser under all stages.

KIVI (Liu et al., ICML 2024, arXiv 2402.02750), section 3.1: ``Q(x) = round((x - min) / step)`` with
``step = (max - min) / (2**bits - 1)`` for each group. The papers store ``min`` and ``step`` in 16 bits each. Here both
are integers, which an entropy coder makes small: the step in eighths of an octave, rounded up, and the least level in
sixteenths of a step, rounded down. A value is off by half a step at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....formats.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = [
    "FINEST_STEP",
    "FRACTION",
    "MAX_STEP",
    "MAX_ZERO",
    "STEPS_PER_OCTAVE",
    "GroupCode",
    "dequantise_groups",
    "group_count",
    "levels_of",
    "quantise_groups",
    "step_index",
    "step_values",
]

STEPS_PER_OCTAVE = 8
FRACTION = 16
FINEST_STEP, MAX_STEP = -480, 400
MAX_ZERO = 1 << 24
_LEAST_SHARE = 2.0**-13


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCode:
    """Symbols uint8 [rows, length]; of every group of a row its step and least level, int64 [rows, groups].

    Symbol ``s`` of a group stands for ``(zero / 16 + s) * 2 ** (step / 8)``.
    """

    symbols: NDArray[np.uint8]
    steps: Integers
    zeros: Integers


def group_count(length: int, group: int) -> int:
    """Groups in a row; the last may be shorter."""
    return -(-length // group)


def quantise_groups(rows: Floats, bits: int, group: int) -> GroupCode:
    """Quantise ``rows`` [rows, length] in groups of ``group`` neighbours within a row, to ``bits`` bits (1 to 8).

    Raises :class:`InvalidParameter` for values that are too large for a lossy code.
    """
    levels = (1 << bits) - 1
    starts = np.arange(0, rows.shape[1], group)
    low = np.minimum.reduceat(rows, starts, axis=1).astype(np.float64)
    high = np.maximum.reduceat(rows, starts, axis=1).astype(np.float64)
    # the least level is rounded down by up to a sixteenth of a step, for which there must be room at the top
    needed = (high - low) / (levels - 1 / FRACTION)
    # a group of nearly equal values far from zero must not need a least level beyond 2**24
    steps = step_index(np.maximum(needed, np.maximum(np.abs(low), np.abs(high)) * _LEAST_SHARE))
    zeros = np.floor(FRACTION * low / np.exp2(steps / STEPS_PER_OCTAVE)).astype(np.int64)
    scaled = levels_of(rows, steps, zeros, group)
    symbols = np.clip(np.rint(scaled), 0, levels).astype(np.uint8)
    return GroupCode(symbols=symbols, steps=steps, zeros=zeros)


def dequantise_groups(code: GroupCode, group: int) -> Floats:
    """What the symbols stand for: float32 [rows, length]."""
    length = code.symbols.shape[1]
    zeros = _spread(code.zeros.astype(np.float32) / np.float32(FRACTION), length, group)
    result: Floats = (zeros + code.symbols) * _spread(step_values(code.steps), length, group)
    return result


def levels_of(rows: Floats, steps: Integers, zeros: Integers, group: int) -> NDArray[np.float64]:
    """``rows`` on the scale of their group's symbols, not rounded."""
    length = rows.shape[1]
    sizes = _spread(np.exp2(steps / STEPS_PER_OCTAVE), length, group)
    result: NDArray[np.float64] = rows / sizes - _spread(zeros / FRACTION, length, group)
    return result


def step_index(steps: NDArray[np.float64]) -> Integers:
    """The least index whose step is no smaller, int64; raises :class:`InvalidParameter` above 2**50."""
    floor = 2.0 ** (FINEST_STEP / STEPS_PER_OCTAVE)
    index: Integers = np.ceil(STEPS_PER_OCTAVE * np.log2(np.maximum(steps, floor)) - 1e-9).astype(np.int64)
    if index.size and int(index.max()) > MAX_STEP:
        raise InvalidParameter("a value of the cache exceeds 2**50; store such a cache with kv-lossless")
    return index


def step_values(index: Integers) -> Floats:
    """The steps of indices, float32."""
    values: Floats = np.exp2(index / STEPS_PER_OCTAVE).astype(np.float32)
    return values


def _spread(of_groups: NDArray[Any], length: int, group: int) -> NDArray[Any]:
    """[rows, groups] -> [rows, length]."""
    return np.repeat(of_groups, group, axis=1)[:, :length]
