"""Compiled coding of a band of one stage's blocks: circuit, online regression, adaptive maps and coder.

A block's symbols are coded one after the other. Each gets a monotone integer function from its value to a slot: the
mixture of logistic CDFs under what is known so far, bent by two adaptive maps, spread over the value's range so that
every value owns at least one slot. No table of frequencies is built: an encoder evaluates the function at two
points, a decoder searches it. The first map is chosen by the predicted spread, the second by how far off symbols
around were.
"""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import compiled, inlined
from .ans import peek, pop
from .logistic_tables import FRACTION_BITS
from .map_kernels import (
    MAP_BINS,
    SPREAD_CONTEXTS,
    bent,
    bin_of,
    energy_context,
    energy_of,
    inverse,
    observe,
    spread_context,
)
from .mixture_kernels import HALF, TOTAL, UNIT, centre, condition, fill_below, leaves, mixed, start_block
from .regression_kernels import fill_features, learn, predicted, solve, to_quarters, weighted_targets

__all__ = ["decode_blocks", "encode_blocks"]


@inlined
def _slot(value, low, high, plain, edges, bins, first_map, second_map):  # type: ignore[no-untyped-def]
    """First slot of ``value`` whose plain probability of less is ``plain``; also both maps' inputs and bins."""
    if value <= low:
        return np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if value > high:
        return np.int64(TOTAL), np.int64(MAP_BINS - 1), np.int64(TOTAL), np.int64(MAP_BINS - 1)
    first = bin_of(plain, edges, bins)
    once = bent(plain, first, edges, first_map[0], first_map[1])
    second = bin_of(once, edges, bins)
    twice = bent(once, second, edges, second_map[0], second_map[1])
    count = high - low + 1
    return ((twice * (TOTAL - count)) >> 24) + (value - low), first, once, second


@inlined
def _energy(variable, energies, row, column, last_column, own, count):  # type: ignore[no-untyped-def]
    """Weighted sum and number of energies around a variable; the mean of the block's own counts four times."""
    total, number = (4 * own // count, 4) if count > 0 else (np.int64(0), 0)
    if column > 0:
        total += 2 * energies[row + 1, column, variable]
        number += 2
    if row > 0:
        total += 2 * energies[row, column + 1, variable]
        number += 2
        if column > 0:
            total += energies[row, column, variable]
            number += 1
        if column < last_column:
            total += energies[row, column + 2, variable]
            number += 1
    return total, number


@inlined
def _guess(slot, average, stride, low, high, leaf, weights, mass, cdf, below, maps):  # type: ignore[no-untyped-def]
    """Nearly the value that owns ``slot``: both maps inverted once, then a search without them."""
    means, inverses = leaf
    edges, _, first_map, second_map = maps
    wanted = inverse(inverse(slot, edges, second_map[0], second_map[1]), edges, first_map[0], first_map[1]) * mass
    lower, upper = low, high + 1
    guess = min(max((average + HALF) >> FRACTION_BITS, low), high)
    while upper - lower > 1:
        guess = min(max(guess, lower + 1), upper - 1)
        fill_below(guess, low, high, means, inverses, cdf, below)
        total = np.int64(0)
        for state in range(len(weights)):
            total += weights[state] * below[state]
        if wanted < total:
            upper = guess
            guess = guess - stride if lower == low else (lower + upper) >> 1
        else:
            lower = guess
            guess = guess + stride if upper == high + 1 else (lower + upper) >> 1
        stride += stride
    return lower


@inlined
def _search(slot, average, spread, low, high, leaf, weights, mass, cdf, below, maps):  # type: ignore[no-untyped-def]
    """The value that owns ``slot``: gallop away from a good guess, then bisect."""
    means, inverses = leaf
    edges, bins, first_map, second_map = maps
    stride = np.int64(1) << max((spread - 4) >> 1, 0)
    guess = _guess(slot, average, stride, low, high, leaf, weights, mass, cdf, below, maps)
    lower, upper = low, high + 1
    stride = np.int64(1)
    while upper - lower > 1:
        guess = min(max(guess, lower + 1), upper - 1)
        fill_below(guess, low, high, means, inverses, cdf, below)
        here = _slot(guess, low, high, mixed(below, weights, mass), edges, bins, first_map, second_map)
        if slot < here[0]:
            upper = guess
            guess = guess - stride if lower == low else (lower + upper) >> 1
        else:
            lower = guess
            guess = guess + stride if upper == high + 1 else (lower + upper) >> 1
        stride += stride
    return lower


@inlined
def _code(operations, position, words, coder, start, stop, decoding):  # type: ignore[no-untyped-def]
    """Take the symbol off the stack, or note it for the encoder."""
    if decoding:
        pop(words, coder, start, stop - start)
    else:
        operations[0, position] = start
        operations[1, position] = stop - start


@inlined
def _band(stage, place, tables, maps, regression, operations, words, coder, decoding):  # type: ignore[no-untyped-def]
    parameters, means, values, present, ranges, known, hidden, base = stage
    first_row, columns = place
    cdf, weight_table, inverse_table, variance_table, roots, contexts, bins = tables
    edges, counts_a, heights_a, slopes_a, timers_a, counts_b, heights_b, slopes_b, timers_b = maps
    gram, cross, coefficients, scratch, lasting_ridge = regression
    blocks, variables = values.shape
    states = (parameters.shape[1] - variables * (variables - 1) // 2) // (2 * variables + 1)
    cells = variables * states
    weights, leaf_means, inverses, below, above = np.empty((5, states), np.int64)
    residuals, targets = np.empty((2, variables), np.int64)
    count = gram.shape[0]
    regressing = count > 0
    row_features, row_targets = np.zeros((columns, count)), np.zeros((columns, variables))
    row_weights = np.zeros(columns)
    band_rows = blocks // columns
    missed = np.zeros((band_rows + 1, columns + 2, variables))
    energies = np.zeros((band_rows + 1, columns + 2, variables), np.int64)
    written = 0
    for block in range(blocks):
        band_row = block // columns
        column = block - band_row * columns
        row = parameters[block]
        features = row_features[column]
        start_block(row, cells, weight_table, weights)
        if regressing:
            fill_features(features, known, hidden[block], base[block], first_row + band_row, column, missed, band_row)
        coefficient = 2 * cells + states
        own_energy, coded, first_spread = np.int64(0), np.int64(0), np.int64(0)
        for variable in range(variables):
            mean = means[block, variable]
            targets[variable] = 0
            if present[block, variable]:
                low, high = ranges[variable, 0], ranges[variable, 1]
                shift = predicted(features, coefficients[variable]) if regressing else np.int64(0)
                middle = centre(row, variable, coefficient, residuals, mean) + shift
                mass, average, variance = leaves(
                    row, variable, cells, middle, (inverse_table, variance_table), weights, leaf_means, inverses
                )
                spread = spread_context(variance)
                if coded == 0:
                    first_spread = spread
                total, number = _energy(variable, energies, band_row, column, columns - 1, own_energy, coded)
                context = energy_context(total, number, contexts)
                first_map = (heights_a[variable, spread], slopes_a[variable, spread])
                second_map = (heights_b[variable, context], slopes_b[variable, context])
                if decoding:
                    values[block, variable] = _search(
                        peek(coder), average, spread, low, high, (leaf_means, inverses), weights, mass, cdf, below,
                        (edges, bins, first_map, second_map),
                    )  # fmt: skip
                value = np.int64(values[block, variable])
                fill_below(value, low, high, leaf_means, inverses, cdf, below)
                fill_below(value + 1, low, high, leaf_means, inverses, cdf, above)
                plain, plain_stop = mixed(below, weights, mass), mixed(above, weights, mass)
                start, bin_a, once, bin_b = _slot(value, low, high, plain, edges, bins, first_map, second_map)
                stop, end_a, once_stop, end_b = _slot(
                    value + 1, low, high, plain_stop, edges, bins, first_map, second_map
                )
                _code(operations, written, words, coder, start, stop, decoding)
                written += 1
                observe(
                    plain, plain_stop, (bin_a, end_a), edges, counts_a[variable, spread], first_map[0], first_map[1],
                    timers_a[variable, spread],
                )  # fmt: skip
                observe(
                    once, once_stop, (bin_b, end_b), edges, counts_b[variable, context], second_map[0], second_map[1],
                    timers_b[variable, context],
                )  # fmt: skip
                condition(below, above, weights)
                error = value * UNIT - average
                energy = energy_of(error, variance, roots)
                energies[band_row + 1, column + 1, variable] = energy
                own_energy += energy
                coded += 1
                targets[variable] = error + shift
                missed[band_row + 1, column + 1, variable] = to_quarters(error + shift)
            residuals[variable] = np.int64(values[block, variable]) * UNIT - mean
            if regressing:
                features[count - variables + variable] = to_quarters(residuals[variable])
            coefficient += variable
        if regressing:
            row_weights[column] = float(np.int64(1) << (SPREAD_CONTEXTS - 1 - first_spread)) if coded > 0 else 0.0
            weighted_targets(targets, present[block], row_weights[column], row_targets[column])
            if column == columns - 1:
                learn(row_features, row_weights, row_targets, gram, cross)
                solve(gram, cross, coefficients, scratch, lasting_ridge)
    return written


@compiled
def encode_blocks(stage, place, tables, maps, regression, operations):  # type: ignore[no-untyped-def]
    """Write start and frequency of every present symbol to uint32 ``operations`` ``[2, symbols]``.

    ``stage`` holds ``parameters`` int32 ``[blocks, n]``; ``means`` int64, ``values`` int32 and ``present`` bool
    ``[blocks, variables]``; ``ranges`` int64 ``[variables, 2]``; ``known`` int32 ``[channels, rows + 2, columns + 2]``
    with repeated edges; ``hidden`` float32 ``[blocks, network features]``; ``base`` int32 ``[blocks, planes]``.
    ``place`` is the band's first row and the columns.
    """
    words, coder = np.empty(0, np.uint32), np.empty(2, np.uint64)
    return _band(stage, place, tables, maps, regression, operations, words, coder, False)


@compiled
def decode_blocks(stage, place, tables, maps, regression, words, coder):  # type: ignore[no-untyped-def]
    """Fill the stage's ``values`` where ``present``; elsewhere they hold what stands for the missing symbols."""
    return _band(stage, place, tables, maps, regression, np.empty((2, 0), np.uint32), words, coder, True)
