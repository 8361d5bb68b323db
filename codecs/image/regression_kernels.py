"""Compiled online least squares: what the network's means still miss, as a linear function of what is known.

A block's features are, in quarters of a grey level: the 3x3 neighbours of every known plane less the block's base
prediction; a constant; in large pictures, the network's last features; what was missed in the four blocks coded before
around it; residuals of variables coded before in the block. After every row of blocks, a few sweeps of coordinate
descent over exact sums of products give the coefficients for the next row. Old rows fade. All values are integers held
exactly in float64: entries of the sums are scaled to 27 bits before they meet coefficients of 18, so that sums over
:data:`MOST_FEATURES` stay below ``2**53`` and do not depend on their order.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = [
    "MOST_FEATURES",
    "feature_count",
    "fill_features",
    "learn",
    "predicted",
    "solve",
    "start_level",
    "to_quarters",
    "weighted_targets",
]

QUARTERS = 4
LARGEST_FEATURE = 1023
LARGEST_TARGET = 1023
"""In sixteenths of a grey level."""
CONSTANT = 64
HIDDEN_SHIFT = 2
COEFFICIENT_BITS = 14
LARGEST_COEFFICIENT = 1 << 18
SHIFT_TO_MEAN = 8
"""From sums of coefficient times feature to ``2**-10`` grey levels."""
TARGET_SHIFT = 6
SUM_BITS = 27
FADING = 1.0 / 32
RIDGE_SHIFT = 10
SWEEPS = 2
CHUNK = 32
TOGETHER = 4
NEIGHBOURS = 4
WINDOW = 9
MOST_FEATURES = 160

_EXACT = {"reassoc", "contract", "nsz"}
_exact = numba.njit(fastmath=_EXACT, error_model="numpy")


def feature_count(channels: int, variables: int, hidden: int) -> int:
    """Features of a stage: ``channels`` known planes, ``variables`` sub-pixels a block, ``hidden`` from the network."""
    return WINDOW * channels + 1 + hidden + NEIGHBOURS * variables + variables


@_exact
def to_quarters(value):  # type: ignore[no-untyped-def]
    """``2**-10`` grey levels as a feature."""
    return float(min(max(value >> 8, -LARGEST_FEATURE), LARGEST_FEATURE))


@_exact
def fill_features(features, known, hidden, base, row, column, missed, band_row):  # type: ignore[no-untyped-def]
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
    # as many of the network's features as there is room for: all, or none
    for number in range(len(features) - position - (NEIGHBOURS + 1) * variables):
        features[position] = float(np.int64(hidden[number]) >> HIDDEN_SHIFT)
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
def weighted_targets(targets, present, weight, result):  # type: ignore[no-untyped-def]
    """What was missed in a block, int64 in ``2**-10`` grey levels, ``weight`` times; 0 where nothing was coded."""
    for variable in range(len(targets)):
        target = min(max(targets[variable] >> TARGET_SHIFT, -LARGEST_TARGET), LARGEST_TARGET)
        result[variable] = weight * float(target) if present[variable] else 0.0


@_exact
def learn(features, weights, targets, gram, cross):  # type: ignore[no-untyped-def]
    """Add a row of blocks to the sums; ``targets`` hold the weights already.

    ``gram`` is a lower triangle; what stands beside its diagonal means nothing.
    """
    blocks, count = features.shape
    whole, even = blocks - blocks % TOGETHER, count - count % 2
    ones = np.ones(blocks)
    # a chunk of blocks stays in the nearest cache while every row of the sums passes once
    for start in range(0, whole, CHUNK):
        stop = min(start + CHUNK, whole)
        for first in range(0, even, 2):
            for block in range(start, stop, TOGETHER):
                _add_two(gram[first], gram[first + 1], first, features, weights, block)
        for block in range(start, stop, TOGETHER):
            for first in range(even, count):
                _add_four(gram[first], features, weights, features[:, first], block)
            for variable in range(targets.shape[1]):
                _add_four(cross[variable], features, ones, targets[:, variable], block)
    for block in range(whole, blocks):
        for first in range(count):
            _add_one(gram[first], first + 1, features[block], weights[block] * features[block, first])
        for variable in range(targets.shape[1]):
            _add_one(cross[variable], count, features[block], targets[block, variable])


@_exact
def _add_one(line, count, features, factor):  # type: ignore[no-untyped-def]
    for number in range(count):
        line[number] += factor * features[number]


@_exact
def _add_four(line, features, weights, factors, block):  # type: ignore[no-untyped-def]
    """Products of one factor with all features, over :data:`TOGETHER` blocks."""
    one, two, three, four = features[block], features[block + 1], features[block + 2], features[block + 3]
    factor_1, factor_2 = weights[block] * factors[block], weights[block + 1] * factors[block + 1]
    factor_3, factor_4 = weights[block + 2] * factors[block + 2], weights[block + 3] * factors[block + 3]
    for number in range(len(line)):
        line[number] += (factor_1 * one[number] + factor_2 * two[number]) + (
            factor_3 * three[number] + factor_4 * four[number]
        )


@_exact
def _add_two(line, next_line, first, features, weights, block):  # type: ignore[no-untyped-def]
    """Products of features ``first`` and the next with those before, over :data:`TOGETHER` blocks."""
    one, two, three, four = features[block], features[block + 1], features[block + 2], features[block + 3]
    weight_1, weight_2, weight_3, weight_4 = weights[block], weights[block + 1], weights[block + 2], weights[block + 3]
    a1, b1 = weight_1 * one[first], weight_1 * one[first + 1]
    a2, b2 = weight_2 * two[first], weight_2 * two[first + 1]
    a3, b3 = weight_3 * three[first], weight_3 * three[first + 1]
    a4, b4 = weight_4 * four[first], weight_4 * four[first + 1]
    for number in range(first + 2):
        line[number] += (a1 * one[number] + a2 * two[number]) + (a3 * three[number] + a4 * four[number])
        next_line[number] += (b1 * one[number] + b2 * two[number]) + (b3 * three[number] + b4 * four[number])


@_exact
def solve(gram, cross, coefficients, scratch, lasting_ridge):  # type: ignore[no-untyped-def]
    """Improve ``coefficients`` ``[variables, features]``, then let the sums fade.

    ``lasting_ridge`` holds coefficients near 0 until some hundred blocks speak for more.
    """
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
    ridge = (trace // count >> RIDGE_SHIFT) + np.int64(math.floor(lasting_ridge[0] * factor)) + 1
    rest = np.empty(count)
    for variable in range(variables):
        # residuals of later variables are not known yet: their coefficients stay 0
        _descend(scratch, cross[variable], factor, ridge, count - variables + variable, coefficients[variable], rest)
    _fade(gram, FADING)
    _fade(cross, FADING)


@_exact
def _descend(gram, cross, factor, ridge, free, coefficients, rest):  # type: ignore[no-untyped-def]
    """Sweeps of coordinate descent for one variable; ``rest`` is what its coefficients leave of ``cross``."""
    for number in range(free):
        rest[number] = math.floor(cross[number] * factor) * (1 << COEFFICIENT_BITS)
    for number in range(free):
        if coefficients[number] != 0.0:
            row, part = gram[number], coefficients[number]
            for other in range(free):
                rest[other] -= row[other] * part
    for _ in range(SWEEPS):
        for number in range(free):
            row = gram[number]
            wanted = np.int64(rest[number] + row[number] * coefficients[number])
            best = wanted // (np.int64(row[number]) + ridge)
            best = min(max(best, -LARGEST_COEFFICIENT), LARGEST_COEFFICIENT)
            step = float(best) - coefficients[number]
            if step != 0.0:
                coefficients[number] = float(best)
                for other in range(free):
                    rest[other] -= row[other] * step


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
