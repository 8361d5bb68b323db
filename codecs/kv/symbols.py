"""Steps, classes and frequency tables: everything between the file and a symbol, in integers only.

Scales and steps are counted in sixths of an octave. A token of weight ``w`` is quantised with the step
``2 ** ((-quality - 3 * w) / 6)``, proportional to the inverse square root of its energy. The class of a symbol is the
ratio of its coefficient's scale to the step, in thirds of an octave, and chooses its frequency table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.frequency_table import FrequencyTable
from .sensitivity import MAX_WEIGHT, MIN_WEIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CLASSES",
    "MAX_MAGNITUDE",
    "class_numbers",
    "fill_classes",
    "histogram",
    "scale_indices",
    "step_sizes",
    "tables_of_histogram",
]

CLASSES = 49
MAX_MAGNITUDE = 120
_UNITS_PER_OCTAVE = 6
_UNITS_PER_WEIGHT = 3
_LOWEST_RATIO = 24  # class 0 is a scale of 1/16 step
_PRIOR = 20.0
_BITS = 12


def step_sizes(weights: NDArray[np.int8], quality: int) -> NDArray[np.float32]:
    """The quantisation steps of tokens with ``weights``."""
    possible = np.arange(MIN_WEIGHT, MAX_WEIGHT + 1, dtype=np.int8)
    every = np.exp2(_step_index(possible, quality) / _UNITS_PER_OCTAVE).astype(np.float32)
    steps: NDArray[np.float32] = every[weights.astype(np.intp) - MIN_WEIGHT]
    return steps


def scale_indices(scales: NDArray[Any]) -> NDArray[np.int16]:
    """Standard deviations in sixths of an octave."""
    floor = 2.0**-60
    indices: NDArray[np.int16] = np.round(_UNITS_PER_OCTAVE * np.log2(np.maximum(scales, floor))).astype(np.int16)
    return indices


def class_numbers(scales: NDArray[np.int16], weights: NDArray[np.int8], quality: int) -> NDArray[np.uint16]:
    """The classes of a part's symbols, uint16 [tokens, heads, width].

    ``scales`` [heads, width] are scale indices; ``weights`` [heads, tokens].
    """
    heads, width = scales.shape
    classes = np.empty((weights.shape[1], heads, width), np.uint16)
    fill_classes(scales, weights, quality, classes)
    return classes


def fill_classes(
    scales: NDArray[np.int16], weights: NDArray[np.int8], quality: int, classes: NDArray[np.uint16]
) -> None:
    """As :func:`class_numbers`, into an array that is there."""
    from .class_filling import fill

    fill(scales.astype(np.int32) + _LOWEST_RATIO, _step_index(weights, quality), CLASSES - 1, classes)


def histogram(symbols: NDArray[Any], classes: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Counts int64 [classes, 2 * MAX_MAGNITUDE + 2] of symbols; the last column counts escapes."""
    width = 2 * MAX_MAGNITUDE + 2
    slots = symbols.astype(np.int64) + MAX_MAGNITUDE
    slots = np.where((slots < 0) | (slots >= width - 1), width - 1, slots)
    flat = np.bincount((classes.astype(np.int64) * width + slots).ravel(), minlength=CLASSES * width)
    return flat.reshape(CLASSES, width)


def tables_of_histogram(counts: NDArray[np.int64]) -> tuple[FrequencyTable, ...]:
    """One table per class from :func:`histogram`: symmetric, smoothed by a Laplace prior of the same mean magnitude.

    An alphabet ends where a symbol is expected less than half a 4096th of the time; what lies outside escapes.
    """
    return tuple(_table(row) for row in counts)


def _table(counts: NDArray[np.int64]) -> FrequencyTable:
    magnitudes = np.abs(np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1))
    inside = counts[:-1] + counts[:-1][::-1]
    total = float(inside.sum())
    mean = float((inside * magnitudes).sum()) / max(total, 1.0) + 0.01
    decay = mean / (1.0 + mean)
    prior = decay**magnitudes
    shares = (inside + _PRIOR * prior / prior.sum()) / (total + _PRIOR)
    reach = int(magnitudes[shares >= 0.5 / (1 << _BITS)].max(initial=0))
    kept = slice(MAX_MAGNITUDE - reach, MAX_MAGNITUDE + reach + 1)
    outside = 1.0 - shares[kept].sum() + 2.0 * counts[-1] / (total + _PRIOR)
    scaled = np.round(np.append(shares[kept], max(outside, 0.0)) * (1 << 40)).astype(np.int64)
    return FrequencyTable.from_counts(scaled, minimum=-reach, escape=True, bits=_BITS)


def _step_index(weights: NDArray[np.int8], quality: int) -> NDArray[np.int32]:
    return -quality - _UNITS_PER_WEIGHT * weights.astype(np.int32)
