"""Compiled online least squares: what the network's means still miss, as a linear function of what is known.

A block's features are, in quarters of a grey level: the 3x3 neighbours of every known plane less the block's base
prediction; a constant; what was missed in the four blocks coded before around it; residuals of variables coded before
in the block. After every row of blocks, a few sweeps of coordinate descent over exact sums of products give the
coefficients for the next row. Old rows fade. All values are integers held exactly in float64: entries of the sums are
scaled to 28 bits before they meet coefficients of 18, so that sums over :data:`MOST_FEATURES` stay below ``2**53``
and do not depend on their order.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = [
    "MOST_FEATURES",
    "accumulate",
    "feature_count",
    "fill_features",
    "predicted",
    "solve",
    "start_level",
    "to_quarters",
]

QUARTERS = 4
LARGEST_FEATURE = 1023
LARGEST_TARGET = 1023
"""In sixteenths of a grey level."""
CONSTANT = 64
COEFFICIENT_BITS = 14
LARGEST_COEFFICIENT = 1 << 18
SHIFT_TO_MEAN = 8
"""From sums of coefficient times feature to ``2**-10`` grey levels."""
TARGET_SHIFT = 6
SUM_BITS = 28
FADING = 1.0 / 64
RIDGE_SHIFT = 8
LASTING_RIDGE = float(1 << 22)
"""Holds coefficients near 0 until some hundred blocks speak for more."""
SWEEPS = 2
NEIGHBOURS = 4
WINDOW = 9
MOST_FEATURES = 96

_EXACT = {"reassoc", "contract", "nsz"}
_exact = numba.njit(fastmath=_EXACT, error_model="numpy")


def feature_count(channels: int, variables: int) -> int:
    """Features of a stage with ``channels`` known planes and ``variables`` sub-pixels to a block."""
    return WINDOW * channels + 1 + NEIGHBOURS * variables + variables


@_exact
def to_quarters(value):  # type: ignore[no-untyped-def]
    """``2**-10`` grey levels as a feature."""
    return float(min(max(value >> 8, -LARGEST_FEATURE), LARGEST_FEATURE))


@_exact
def fill_features(features, known, base, row, column, missed, band_row):  # type: ignore[no-untyped-def]
    """Everything but the block's own residuals, which become 0.

    ``known`` int32 ``[channels, rows + 2, columns + 2]`` has its edge repeated; ``missed`` float64
    ``[band rows + 1, columns + 2, variables]`` has a border of zeros above and at both sides.
    """
    channels, variables = known.shape[0], missed.shape[2]
    planes = 3
    position = 0
    for channel in range(channels):
        middle = base[channel % planes]
        for down in range(3):
            for right in range(3):
                difference = QUARTERS * (known[channel, row + down, column + right] - middle)
                features[position] = float(min(max(difference, -LARGEST_FEATURE), LARGEST_FEATURE))
                position += 1
    features[position] = CONSTANT
    position += 1
    for variable in range(variables):
        features[position] = missed[band_row + 1, column, variable]
        features[position + variables] = missed[band_row, column + 1, variable]
        features[position + 2 * variables] = missed[band_row, column, variable]
        features[position + 3 * variables] = missed[band_row, column + 2, variable]
        features[position + 4 * variables] = 0.0
        position += 1


@_exact
def predicted(features, coefficients):  # type: ignore[no-untyped-def]
    """Shift of a mean, in ``2**-10`` grey levels."""
    total = 0.0
    for number in range(len(features)):
        total += features[number] * coefficients[number]
    return np.int64(total) >> SHIFT_TO_MEAN


@_exact
def accumulate(features, targets, present, weight, gram, cross):  # type: ignore[no-untyped-def]
    """Add a block, ``weight`` times; ``targets`` int64 in ``2**-10`` grey levels; ``gram`` is a lower triangle."""
    for first in range(len(features)):
        scaled = weight * features[first]
        if scaled != 0.0:
            line = gram[first]
            for second in range(first + 1):
                line[second] += scaled * features[second]
    for variable in range(len(targets)):
        if present[variable]:
            target = min(max(targets[variable] >> TARGET_SHIFT, -LARGEST_TARGET), LARGEST_TARGET)
            scaled = weight * float(target)
            line = cross[variable]
            for number in range(len(features)):
                line[number] += scaled * features[number]


@_exact
def solve(gram, cross, coefficients, scratch):  # type: ignore[no-untyped-def]
    """Improve ``coefficients`` ``[variables, features]``, then let the sums fade."""
    variables, count = cross.shape
    largest = 0.0
    for number in range(count):
        largest = max(largest, gram[number, number])
    if largest == 0.0:
        return
    _, exponent = math.frexp(largest)
    factor = math.ldexp(1.0, min(SUM_BITS - exponent, 0))
    trace = np.int64(0)
    for first in range(count):
        for second in range(first + 1):
            entry = math.floor(gram[first, second] * factor)
            scratch[first, second] = entry
            scratch[second, first] = entry
        trace += np.int64(scratch[first, first])
    ridge = (trace // count >> RIDGE_SHIFT) + np.int64(math.floor(LASTING_RIDGE * factor)) + 1
    for variable in range(variables):
        # residuals of later variables are not known yet: their coefficients stay 0
        free = count - variables + variable
        line = coefficients[variable]
        for _ in range(SWEEPS):
            for number in range(free):
                row = scratch[number]
                total = 0.0
                for other in range(free):
                    total += row[other] * line[other]
                wanted = math.floor(cross[variable, number] * factor) * (1 << COEFFICIENT_BITS)
                rest = np.int64(wanted - total + row[number] * line[number])
                best = rest // (np.int64(row[number]) + ridge)
                line[number] = float(min(max(best, -LARGEST_COEFFICIENT), LARGEST_COEFFICIENT))
    _fade(gram, FADING)
    _fade(cross, FADING)


@_exact
def start_level(gram, cross):  # type: ignore[no-untyped-def]
    """Keep a quarter of what coarser levels taught."""
    _fade(gram, 0.75)
    _fade(cross, 0.75)


@_exact
def _fade(sums, part):  # type: ignore[no-untyped-def]
    for first in range(sums.shape[0]):
        for second in range(sums.shape[1]):
            sums[first, second] -= math.floor(sums[first, second] * part)
