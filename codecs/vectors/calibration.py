"""Where the levels of a format lie: an exponent for floats, an offset and a step for each dimension otherwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .element_types import FLOATS, float_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .parameters import Method, Scale

    Floats = NDArray[np.float32]

__all__ = ["float_exponent", "uniform_levels"]

_MOST_ROWS = 4096
_CLIPS = 24
_WIDE = 127


def float_exponent(sample: Floats, dtype: str, scale: Scale) -> int:
    """The power of two that values are multiplied by before they are rounded to a float of 8 bits.

    ``auto`` brings the root mean square of ``sample`` to twice the smallest normal number at least, below which numbers
    are equally spaced, and its largest value to half of the format's largest at most; ``full`` brings the largest value
    up to there.
    """
    largest = float(np.abs(sample).max(initial=0.0))
    if largest == 0 or scale == "none":
        return 0
    numbers = float_values(dtype, 0)
    highest = math.frexp(float(numbers[FLOATS[dtype].largest]) / 2)[1] - math.frexp(largest)[1]
    if scale == "auto":
        typical = math.sqrt(float(np.mean(np.square(sample, dtype=np.float64))))
        normal = float(numbers[1 << FLOATS[dtype].mantissa])
        needed = math.ceil(math.log2(2 * normal / typical))
        highest = min(max(needed, 0), highest)
    return max(-120, min(highest, 120))


def uniform_levels(sample: Floats, bits: int, method: Method) -> tuple[Floats, Floats]:
    """Offset and step, each [d], of ``2**bits`` equally spaced levels for every dimension of ``sample`` [n, d].

    ``range`` spans the smallest to the largest value of each dimension, ``common`` those of all dimensions together;
    ``mse`` narrows the span around the mean until the mean squared error over the sample is least, the levels of one
    bit being the mean and its mean distance to both sides.
    """
    if not len(sample):
        return np.zeros(sample.shape[1], np.float32), np.ones(sample.shape[1], np.float32)
    low, high = sample.min(axis=0).astype(np.float64), sample.max(axis=0).astype(np.float64)
    top = (1 << bits) - 1
    if method == "common":
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    elif method == "mse":
        values = sample[:: -(-len(sample) // _MOST_ROWS)]
        mean = values.mean(axis=0, dtype=np.float64)
        if bits == 1:
            distance = np.abs(values - mean).mean(axis=0)
            low, high = mean - distance, mean + distance
        else:
            low, high = _least_error(values, mean, low, high, top)
    step = np.maximum((high - low) / top, np.finfo(np.float32).tiny)
    return low.astype(np.float32), step.astype(np.float32)


def _least_error(
    values: Floats, mean: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], top: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    best = np.full(values.shape[1], np.inf)
    found_low, found_high = low.copy(), high.copy()
    for part in np.linspace(1.0, 0.15, _CLIPS):
        first, last = mean + part * (low - mean), mean + part * (high - mean)
        step = np.maximum((last - first) / top, np.finfo(np.float32).tiny)
        levels = (values - first.astype(np.float32)) / step.astype(np.float32)
        rounded = np.rint(np.clip(levels, 0, top))
        rounded -= levels
        error = np.einsum("nd,nd->d", rounded, rounded, dtype=np.float64) * np.square(step)
        better = error < best
        if top >= _WIDE and not better.any():
            break  # of many levels the widest spans are best, and narrower ones only lose
        best = np.where(better, error, best)
        found_low = np.where(better, first, found_low)
        found_high = np.where(better, last, found_high)
    return found_low, found_high
