"""Compiled coding of one stage's blocks: circuit, adaptive map and coder, in 64-bit integers.

A block's symbols are coded one after the other. Each gets a monotone integer function from its value to a slot: the
mixture of logistic CDFs under what is known so far, bent by two adaptive maps, spread over the value's range so that
every value owns at least one slot. No table of frequencies is built: an encoder evaluates the function at two
points, a decoder searches it.

Units: values and means ``2**-10`` grey levels, probabilities ``2**-24``.
"""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import compiled, inlined
from .ans import peek, pop
from .logistic_tables import (
    CDF_ENTRIES_PER_UNIT,
    CDF_RANGE,
    FRACTION_BITS,
    INVERSE_BITS,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
)

__all__ = ["ERROR_CONTEXTS", "MAP_BINS", "SPREAD_CONTEXTS", "decode_blocks", "encode_blocks"]

TOTAL = 1 << 24
HALF = 1 << (FRACTION_BITS - 1)
UNIT = 1 << FRACTION_BITS
INTERPOLATION_BITS = 10
POSITION_SHIFT = FRACTION_BITS + INVERSE_BITS - 7 - INTERPOLATION_BITS
ZERO_POSITION = CDF_RANGE * CDF_ENTRIES_PER_UNIT << INTERPOLATION_BITS
LAST_POSITION = 2 * ZERO_POSITION

MAP_BINS = 32
SPREAD_CONTEXTS = 12
ERROR_CONTEXTS = 11
SPREAD_OFFSET = 17
OBSERVATION = 1 << 12
FIRST_REBUILD = 8
REBUILD_SHIFT = 4
MEAN_SHIFT = 2


@inlined
def _logistic(distance, inverse, cdf):  # type: ignore[no-untyped-def]
    """CDF of a logistic whose mean is ``-distance`` away, by linear interpolation."""
    position = ((distance * inverse) >> POSITION_SHIFT) + ZERO_POSITION
    if position <= 0:
        return np.int64(0)
    if position >= LAST_POSITION:
        return np.int64(TOTAL)
    entry = position >> INTERPOLATION_BITS
    low = cdf[entry]
    part = position & ((1 << INTERPOLATION_BITS) - 1)
    return low + (((cdf[entry + 1] - low) * part) >> INTERPOLATION_BITS)


@inlined
def _mixture(value, means, inverses, weights, mass, cdf):  # type: ignore[no-untyped-def]
    """Probability that a symbol is below ``value``."""
    edge = value * UNIT - HALF
    total = np.int64(0)
    for state in range(len(weights)):
        total += weights[state] * _logistic(edge - means[state], inverses[state], cdf)
    return total // mass


@inlined
def _bent(probability, edges, heights, slopes):  # type: ignore[no-untyped-def]
    """A piecewise linear, increasing map of probabilities."""
    low, high = 0, MAP_BINS
    while high - low > 1:
        middle = (low + high) >> 1
        if probability >= edges[middle]:
            low = middle
        else:
            high = middle
    return heights[low] + (((probability - edges[low]) * slopes[low]) >> 16)


@inlined
def _slot(value, low, high, model, maps):  # type: ignore[no-untyped-def]
    """First slot of ``value`` in a range ``low .. high``, with the probabilities before each map."""
    if value <= low:
        return np.int64(0), np.int64(0), np.int64(0)
    if value > high:
        return np.int64(TOTAL), np.int64(TOTAL), np.int64(TOTAL)
    means, inverses, weights, mass, cdf = model
    edges, first_heights, first_slopes, second_heights, second_slopes = maps
    plain = _mixture(value, means, inverses, weights, mass, cdf)
    once = _bent(plain, edges, first_heights, first_slopes)
    twice = _bent(once, edges, second_heights, second_slopes)
    count = high - low + 1
    return ((twice * (TOTAL - count)) >> 24) + (value - low), plain, once


@inlined
def _observe(start, stop, edges, counts, heights, slopes, timer):  # type: ignore[no-untyped-def]
    """Credit the bins that ``start .. stop`` covers in proportion to their share; rebuild the map now and then."""
    if stop <= start:
        stop = start + 1
    first = 0
    while first < MAP_BINS - 1 and start >= edges[first + 1]:
        first += 1
    below = heights[first] + (((start - edges[first]) * slopes[first]) >> 16)
    last = first
    while last < MAP_BINS - 1 and stop > edges[last + 1]:
        last += 1
    if last == first:
        counts[first] += OBSERVATION
    else:
        above = heights[last] + (((stop - edges[last]) * slopes[last]) >> 16)
        width = max(above - below, 1)
        previous = below
        for number in range(first, last + 1):
            reached = above if number == last else heights[number + 1]
            counts[number] += (reached - previous) * OBSERVATION // width
            previous = reached
    timer[0] += 1
    if timer[0] >= timer[1]:
        timer[1] = timer[0] + max(FIRST_REBUILD, timer[0] >> REBUILD_SHIFT)
        total = np.int64(0)
        for number in range(MAP_BINS):
            total += counts[number]
        running = np.int64(0)
        for number in range(MAP_BINS):
            heights[number] = (running << 24) // total
            running += counts[number]
        heights[MAP_BINS] = TOTAL
        for number in range(MAP_BINS):
            rise = heights[number + 1] - heights[number]
            slopes[number] = (rise << 16) // (edges[number + 1] - edges[number])


@inlined
def _bit_length(value):  # type: ignore[no-untyped-def]
    length = 0
    while value > 0:
        value >>= 1
        length += 1
    return length


@inlined
def _start_block(row, cells, states, weight_table, weights):  # type: ignore[no-untyped-def]
    """Prior weights of the latent states from their logits."""
    offset = 2 * cells
    top = row[offset]
    for state in range(1, states):
        top = max(top, row[offset + state])
    for state in range(states):
        difference = np.int64(top) - row[offset + state]
        weights[state] = weight_table[min(difference, len(weight_table) - 1)]


@inlined
def _scale_entry(log_scale):  # type: ignore[no-untyped-def]
    """Where a log-scale stands in the tables of scales."""
    return np.int64(min(max(log_scale, LOG_SCALE_LOW), LOG_SCALE_HIGH)) - LOG_SCALE_LOW


@inlined
def _prepare(row, variable, cells, states, centre, tables, weights, means, inverses):  # type: ignore[no-untyped-def]
    """Means and inverse scales of one variable's leaves; returns mass, mixture mean and variance."""
    inverse_table, variance_table = tables
    mass, moment = np.int64(0), np.int64(0)
    for state in range(states):
        cell = variable * states + state
        mean = centre + (np.int64(row[cell]) << MEAN_SHIFT)
        scale = _scale_entry(row[cells + cell])
        means[state] = mean
        inverses[state] = inverse_table[scale]
        mass += weights[state]
        moment += weights[state] * mean
    average = moment // mass
    spread = np.int64(0)
    for state in range(states):
        cell = variable * states + state
        scale = _scale_entry(row[cells + cell])
        away = means[state] - average
        spread += weights[state] * (away * away + variance_table[scale])
    return mass, average, spread // mass


@inlined
def _spread_context(variance):  # type: ignore[no-untyped-def]
    """Two contexts per octave of the standard deviation."""
    return min(max(_bit_length(variance) - SPREAD_OFFSET, 0), SPREAD_CONTEXTS - 1)


@inlined
def _error_context(error, variance):  # type: ignore[no-untyped-def]
    """How many half standard deviations the last symbol was off, from 1 (far below) to 10 (far above)."""
    ratio = 4 * error * error // max(variance, 1)
    halves = 0
    while halves < 5 and (halves + 1) * (halves + 1) <= ratio:
        halves += 1
    if error < 0:
        return max(5 - halves, 1)
    return min(6 + halves, 10)


@inlined
def _update(value, low, high, means, inverses, weights, cdf):  # type: ignore[no-untyped-def]
    """Posterior weights of the latent states after ``value``, rescaled to 16 bits; none below one."""
    below, above = value * UNIT - HALF, value * UNIT + HALF
    largest = np.int64(0)
    for state in range(len(weights)):
        start = np.int64(0) if value <= low else _logistic(below - means[state], inverses[state], cdf)
        stop = np.int64(TOTAL) if value >= high else _logistic(above - means[state], inverses[state], cdf)
        weights[state] *= max(stop - start, 1)
        largest = max(largest, weights[state])
    shift = max(_bit_length(largest) - 16, 0)
    for state in range(len(weights)):
        weights[state] = max(weights[state] >> shift, 1)


@inlined
def _centre(row, variable, coefficient, residuals, extra, mean, shift):  # type: ignore[no-untyped-def]
    """Mean of a variable before offsets: base, correction, and regression on residuals of earlier variables."""
    regression = np.int64(0)
    for earlier in range(variable):
        weight = np.int64(row[coefficient + earlier]) + extra[variable, earlier]
        regression += weight * residuals[earlier]
    return mean + shift + (regression >> FRACTION_BITS)


@compiled
def encode_blocks(parameters, means, shifts, extra, values, present, ranges, tables, maps, starts, frequencies):  # type: ignore[no-untyped-def]
    """Write start and frequency of every present symbol; return their number.

    ``parameters`` int32 ``[blocks, n]``, ``means``/``shifts``/``values`` ``[blocks, variables]``, ``present`` bool of
    the same shape, ``extra`` int64 ``[variables, variables]``, ``ranges`` int64 ``[variables, 2]``.
    """
    cdf, weight_table, inverse_table, variance_table = tables
    edges, counts_a, heights_a, slopes_a, timers_a, counts_b, heights_b, slopes_b, timers_b = maps
    blocks, variables = values.shape
    states = (parameters.shape[1] - variables * (variables - 1) // 2) // (2 * variables + 1)
    cells = variables * states
    weights, leaf_means, inverses = np.empty((3, states), np.int64)
    residuals = np.empty(variables, np.int64)
    written = 0
    for block in range(blocks):
        row = parameters[block]
        _start_block(row, cells, states, weight_table, weights)
        error_context = 0
        coefficient = 2 * cells + states
        for variable in range(variables):
            value = np.int64(values[block, variable])
            mean = means[block, variable]
            residuals[variable] = value * UNIT - mean
            if present[block, variable]:
                low, high = ranges[variable, 0], ranges[variable, 1]
                centre = _centre(row, variable, coefficient, residuals, extra, mean, shifts[block, variable])
                mass, average, variance = _prepare(
                    row, variable, cells, states, centre, (inverse_table, variance_table), weights, leaf_means, inverses
                )
                spread = _spread_context(variance)
                model = (leaf_means, inverses, weights, mass, cdf)
                bends = (
                    edges, heights_a[variable, spread], slopes_a[variable, spread],
                    heights_b[variable, error_context], slopes_b[variable, error_context],
                )  # fmt: skip
                start, plain_start, once_start = _slot(value, low, high, model, bends)
                stop, plain_stop, once_stop = _slot(value + 1, low, high, model, bends)
                starts[written] = start
                frequencies[written] = stop - start
                written += 1
                _observe(
                    plain_start, plain_stop, edges, counts_a[variable, spread], bends[1], bends[2],
                    timers_a[variable, spread],
                )  # fmt: skip
                _observe(
                    once_start, once_stop, edges, counts_b[variable, error_context], bends[3], bends[4],
                    timers_b[variable, error_context],
                )  # fmt: skip
                error_context = _error_context(value * UNIT - average, variance)
                _update(value, low, high, leaf_means, inverses, weights, cdf)
            coefficient += variable
    return written


@compiled
def decode_blocks(parameters, means, shifts, extra, values, present, ranges, tables, maps, words, coder):  # type: ignore[no-untyped-def]
    """Fill ``values`` where ``present``; elsewhere they hold what stands for the missing symbols."""
    cdf, weight_table, inverse_table, variance_table = tables
    edges, counts_a, heights_a, slopes_a, timers_a, counts_b, heights_b, slopes_b, timers_b = maps
    blocks, variables = values.shape
    states = (parameters.shape[1] - variables * (variables - 1) // 2) // (2 * variables + 1)
    cells = variables * states
    weights, leaf_means, inverses = np.empty((3, states), np.int64)
    residuals = np.empty(variables, np.int64)
    for block in range(blocks):
        row = parameters[block]
        _start_block(row, cells, states, weight_table, weights)
        error_context = 0
        coefficient = 2 * cells + states
        for variable in range(variables):
            mean = means[block, variable]
            if present[block, variable]:
                low, high = ranges[variable, 0], ranges[variable, 1]
                centre = _centre(row, variable, coefficient, residuals, extra, mean, shifts[block, variable])
                mass, average, variance = _prepare(
                    row, variable, cells, states, centre, (inverse_table, variance_table), weights, leaf_means, inverses
                )
                spread = _spread_context(variance)
                model = (leaf_means, inverses, weights, mass, cdf)
                bends = (
                    edges, heights_a[variable, spread], slopes_a[variable, spread],
                    heights_b[variable, error_context], slopes_b[variable, error_context],
                )  # fmt: skip
                slot = peek(coder)
                lower, upper = low, high + 1
                bottom, top = _slot(lower, low, high, model, bends), _slot(upper, low, high, model, bends)
                # gallop away from the mean, then bisect
                stride = np.int64(1) << max((spread - 4) >> 1, 0)
                guess = min(max((average + HALF) >> FRACTION_BITS, low), high)
                while upper - lower > 1:
                    guess = min(max(guess, lower + 1), upper - 1)
                    here = _slot(guess, low, high, model, bends)
                    if slot < here[0]:
                        upper, top = guess, here
                        guess = guess - stride if lower == low else (lower + upper) >> 1
                    else:
                        lower, bottom = guess, here
                        guess = guess + stride if upper == high + 1 else (lower + upper) >> 1
                    stride += stride
                pop(words, coder, bottom[0], top[0] - bottom[0])
                value = lower
                values[block, variable] = value
                _observe(
                    bottom[1], top[1], edges, counts_a[variable, spread], bends[1], bends[2], timers_a[variable, spread]
                )
                _observe(
                    bottom[2], top[2], edges, counts_b[variable, error_context], bends[3], bends[4],
                    timers_b[variable, error_context],
                )  # fmt: skip
                error_context = _error_context(value * UNIT - average, variance)
                _update(value, low, high, leaf_means, inverses, weights, cdf)
            residuals[variable] = np.int64(values[block, variable]) * UNIT - mean
            coefficient += variable
