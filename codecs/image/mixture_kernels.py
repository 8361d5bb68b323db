"""Compiled arithmetic of a block's circuit: leaves, their mixture, and what a symbol says of the latent state.

Integers throughout. Units: values and means ``2**-10`` grey levels, probabilities ``2**-24``, weights of latent
states 16 bits.
"""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import bit_length, inlined
from .logistic_tables import (
    CDF_ENTRIES_PER_UNIT,
    CDF_RANGE,
    FRACTION_BITS,
    INVERSE_BITS,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
)

__all__ = ["HALF", "TOTAL", "UNIT", "centre", "condition", "fill_below", "leaves", "mixed", "start_block"]

TOTAL = 1 << 24
HALF = 1 << (FRACTION_BITS - 1)
UNIT = 1 << FRACTION_BITS
INTERPOLATION_BITS = 10
POSITION_SHIFT = FRACTION_BITS + INVERSE_BITS - 7 - INTERPOLATION_BITS
ZERO_POSITION = CDF_RANGE * CDF_ENTRIES_PER_UNIT << INTERPOLATION_BITS
LAST_POSITION = 2 * ZERO_POSITION
MEAN_SHIFT = 2


@inlined
def start_block(row, cells, weight_table, weights):  # type: ignore[no-untyped-def]
    """Prior weights of the latent states from their logits."""
    offset = 2 * cells
    top = row[offset]
    for state in range(1, len(weights)):
        top = max(top, row[offset + state])
    for state in range(len(weights)):
        difference = np.int64(top) - row[offset + state]
        weights[state] = weight_table[min(difference, len(weight_table) - 1)]


@inlined
def centre(row, variable, coefficient, residuals, mean):  # type: ignore[no-untyped-def]
    """Mean of a variable before offsets: base and regression on residuals of earlier variables."""
    regression = np.int64(0)
    for earlier in range(variable):
        regression += np.int64(row[coefficient + earlier]) * residuals[earlier]
    return mean + (regression >> FRACTION_BITS)


@inlined
def leaves(row, variable, cells, middle, tables, weights, means, inverses):  # type: ignore[no-untyped-def]
    """Means and inverse scales of one variable's leaves; returns mass, mixture mean and variance."""
    inverse_table, variance_table = tables
    mass, moment, within = np.int64(0), np.int64(0), np.int64(0)
    for state in range(len(weights)):
        cell = variable * len(weights) + state
        offset = np.int64(row[cell]) << MEAN_SHIFT
        scale = np.int64(min(max(row[cells + cell], LOG_SCALE_LOW), LOG_SCALE_HIGH)) - LOG_SCALE_LOW
        means[state] = middle + offset
        inverses[state] = inverse_table[scale]
        mass += weights[state]
        moment += weights[state] * offset
        within += weights[state] * variance_table[scale]
    average = middle + moment // mass
    for state in range(len(weights)):
        away = means[state] - average
        within += weights[state] * (away * away)
    return mass, average, within // mass


@inlined
def fill_below(value, low, high, means, inverses, cdf, result):  # type: ignore[no-untyped-def]
    """Probability under each leaf that a symbol is below ``value``, all mass within ``low .. high``."""
    if value <= low:
        result[:] = 0
    elif value > high:
        result[:] = TOTAL
    else:
        edge = value * UNIT - HALF
        for state in range(len(result)):
            position = (((edge - means[state]) * inverses[state]) >> POSITION_SHIFT) + ZERO_POSITION
            position = min(max(position, 0), LAST_POSITION - 1)
            entry = position >> INTERPOLATION_BITS
            start = cdf[entry]
            part = position & ((1 << INTERPOLATION_BITS) - 1)
            result[state] = start + (((cdf[entry + 1] - start) * part) >> INTERPOLATION_BITS)


@inlined
def mixed(below, weights, mass):  # type: ignore[no-untyped-def]
    """The mixture of what :func:`fill_below` gives."""
    total = np.int64(0)
    for state in range(len(weights)):
        total += weights[state] * below[state]
    return total // mass


@inlined
def condition(below, above, weights):  # type: ignore[no-untyped-def]
    """Posterior weights of the latent states after a symbol, rescaled to 16 bits; none below one."""
    largest = np.int64(0)
    for state in range(len(weights)):
        weights[state] *= max(above[state] - below[state], 1)
        largest = max(largest, weights[state])
    shift = max(bit_length(largest) - 16, 0)
    for state in range(len(weights)):
        weights[state] = max(weights[state] >> shift, 1)
