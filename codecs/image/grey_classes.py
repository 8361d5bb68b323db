"""Classes of grey values: runs of similar values that a circuit tells apart, and the values within a run.

A pixel is coded in two stages: its class by the circuit, then its place within the class by one static table.
Frequent values are classes of their own; the others share them evenly. Few classes need few examples to learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...entropy.frequency_table import PRECISION, TOTAL, normalise_counts
from ...formats.errors import CorruptFile

__all__ = ["GREYS", "GreyClasses", "learn_classes"]

GREYS = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class GreyClasses:
    """``class_of_grey`` (uint8 ``[256]``, ascending without gaps) and ``frequencies`` within classes.

    ``frequencies`` is uint32 ``[256]``; those of a class sum to ``2**24``.
    """

    class_of_grey: NDArray[np.uint8]
    frequencies: NDArray[np.uint32]

    def __post_init__(self) -> None:
        steps = np.diff(self.class_of_grey.astype(np.int64))
        if len(self.class_of_grey) != GREYS or self.class_of_grey[0] != 0:
            raise CorruptFile("grey classes must map 256 values, the first to class 0")
        if len(self.frequencies) != GREYS or not np.isin(steps, (0, 1)).all():
            raise CorruptFile("grey classes must be runs in ascending order")
        sums = np.bincount(self.class_of_grey, weights=self.frequencies)
        if int(self.frequencies.min()) < 1 or not (sums == TOTAL).all():
            raise CorruptFile("frequencies within a grey class must sum to 2**24")

    @property
    def count(self) -> int:
        return int(self.class_of_grey[-1]) + 1

    @cached_property
    def first_grey(self) -> NDArray[np.int64]:
        """First value of each class, and 256 at the end: int64 ``[count + 1]``."""
        return np.searchsorted(self.class_of_grey, np.arange(self.count + 1)).astype(np.int64)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Cumulative frequency of each value within its class: int64 ``[256]``."""
        cumulative = np.cumsum(self.frequencies.astype(np.int64)) - self.frequencies
        return (cumulative - self.class_of_grey.astype(np.int64) * TOTAL).astype(np.int64)

    def offset_bits(self) -> NDArray[np.float64]:
        """Code length of each value within its class, in bits; for reports."""
        return np.asarray(PRECISION - np.log2(self.frequencies), np.float64)


def learn_classes(histogram: NDArray[np.int64], count: int) -> GreyClasses:
    """About ``count`` classes for grey values that occur ``histogram`` ``[256]`` times.

    Black is a class of its own, and so is each value more frequent than an even share of the others.
    """
    others = histogram.astype(np.float64) + 0.5
    others[0] = 0.0
    alone = others > others.sum() / count
    alone[0] = True
    shared = np.where(alone, 0.0, others)
    share = shared.sum() / max(1, count - int(alone.sum()))
    class_of_grey = np.zeros(GREYS, np.uint8)
    current, gathered = 0, 0.0
    for grey in range(GREYS):
        if alone[grey] and gathered > 0:
            current, gathered = current + 1, 0.0
        class_of_grey[grey] = current
        gathered += shared[grey]
        if grey + 1 < GREYS and (alone[grey] or gathered >= share):
            current, gathered = current + 1, 0.0
    return GreyClasses(class_of_grey=class_of_grey, frequencies=_within_classes(class_of_grey, histogram))


def _within_classes(class_of_grey: NDArray[np.uint8], histogram: NDArray[np.int64]) -> NDArray[np.uint32]:
    frequencies = np.zeros(GREYS, np.uint32)
    for number in range(int(class_of_grey[-1]) + 1):
        members = class_of_grey == number
        frequencies[members] = normalise_counts(4 * histogram[members] + 1)
    return frequencies
