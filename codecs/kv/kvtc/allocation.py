"""KVTC's bit allocation: groups of principal components, each with a number of bits, by dynamic programming.

Staniszewski and Łańcucki, "KV Cache Transform Coding for Compact Storage in LLM Inference" (arXiv 2511.01815):
components in order of their variance are cut into groups that share a shift and a scale for each token; sizes and types
of the groups minimise the squared error over calibration data within a budget of bits for each token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["BITS", "GROUP_SIZES", "OVERHEAD_BITS", "UNIT", "Group", "allocate", "cost_bits", "group_errors"]

UNIT = 16  # groups begin at multiples of this
GROUP_SIZES = (16, 64, 256, 1024)
BITS = (0, 2, 4, 8, 16)
OVERHEAD_BITS = 32
_COST_UNIT = 32


@dataclass(frozen=True, slots=True)
class Group:
    """``size`` neighbouring components in ``bits`` bits each: 0 for dropped, 16 for float16 without shift and scale."""

    size: int
    bits: int


def cost_bits(group: Group) -> int:
    """Bits of a group for each token, before DEFLATE."""
    return group.size * group.bits + (OVERHEAD_BITS if 0 < group.bits < 16 else 0)


def group_errors(components: Floats) -> NDArray[np.float64]:
    """Mean squared error of every group that is possible: [starts, sizes, bits], infinite where it would not fit.

    ``components`` [tokens, rank] are those of calibration data; ``rank`` is a multiple of 16.
    """
    from .components import quantised_error

    rank = components.shape[1]
    errors = np.full((rank // UNIT, len(GROUP_SIZES), len(BITS)), np.inf)
    for start in range(rank // UNIT):
        for column, size in enumerate(GROUP_SIZES):
            if start * UNIT + size > rank:
                break
            block = components[:, start * UNIT : start * UNIT + size]
            errors[start, column] = [quantised_error(block, bits) for bits in BITS]
    return errors


def allocate(errors: NDArray[np.float64], budget_bits: int) -> list[Group]:
    """The groups with the least total error that take at most ``budget_bits`` for each token, in order.

    Dropped components at the end are left out.
    """
    starts = errors.shape[0]
    width = budget_bits // _COST_UNIT + 1
    best = np.full((starts + 1, width), np.inf)
    best[0] = 0
    choice = np.zeros((starts + 1, width), np.int64)
    options = [Group(size, bits) for size in GROUP_SIZES for bits in BITS]
    for start in range(starts):
        for number, group in enumerate(options):
            stop = start + group.size // UNIT
            cost = cost_bits(group) // _COST_UNIT
            if stop > starts or cost >= width:
                continue
            error = errors[start, number // len(BITS), number % len(BITS)]
            found = best[start, : width - cost] + error
            target = best[stop, cost:]
            better = found < target
            target[better] = found[better]
            choice[stop, cost:][better] = number
    groups: list[Group] = []
    place, left = starts, width - 1
    while place:
        group = options[int(choice[place, left])]
        groups.append(group)
        place -= group.size // UNIT
        left -= cost_bits(group) // _COST_UNIT
    groups.reverse()
    while groups and groups[-1].bits == 0:
        groups.pop()
    return groups
