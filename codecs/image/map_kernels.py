"""Compiled adaptive maps: piecewise linear, increasing functions of a probability that learn while a stage is coded."""

from __future__ import annotations

import numpy as np

from ...entropy.native_compilation import bit_length, inlined
from .mixture_kernels import TOTAL

__all__ = [
    "BIN_TABLE_SHIFT",
    "ENERGY_CONTEXTS",
    "ENERGY_EDGES",
    "ENERGY_UNIT",
    "FIRST_REBUILD",
    "LARGEST_ENERGY",
    "MAP_BINS",
    "OBSERVATION",
    "REBUILD_SHIFT",
    "SPREAD_CONTEXTS",
    "bent",
    "bin_of",
    "energy_context",
    "energy_of",
    "inverse",
    "observe",
    "spread_context",
]

MAP_BINS = 32
BIN_TABLE_SHIFT = 12
"""Bins are looked up by the upper bits of a probability; no bin is narrower than what is cut off."""
OBSERVATION = 1 << 12
SHARE_BITS = 28

MOST_OBSERVATIONS = 4096 * OBSERVATION
"""From this sum on, all counts of a map are halved: what was long ago tells less."""
FIRST_REBUILD = 8
REBUILD_SHIFT = 4

SPREAD_CONTEXTS = 12
SPREAD_OFFSET = 17
ENERGY_UNIT = 8
"""Energies are errors in eighths of the predicted standard deviation."""
LARGEST_ENERGY = 63
ENERGY_EDGES = (11, 14, 18, 24, 32, 42, 56, 74, 97, 128, 169)
"""Edges of contexts for mean energies in units of 1/64 standard deviation."""
ENERGY_CONTEXTS = len(ENERGY_EDGES) + 1
_USUAL_ENERGY = 51


@inlined
def spread_context(variance):  # type: ignore[no-untyped-def]
    """Two contexts per octave of the standard deviation."""
    return min(max(bit_length(variance) - SPREAD_OFFSET, 0), SPREAD_CONTEXTS - 1)


@inlined
def energy_of(error, variance, roots):  # type: ignore[no-untyped-def]
    """Size of an error against the predicted standard deviation, 0 to ``LARGEST_ENERGY``."""
    ratio = error * error * (ENERGY_UNIT * ENERGY_UNIT) // max(variance, 1)
    return np.int64(roots[min(ratio, len(roots) - 1)])


@inlined
def energy_context(total, count, contexts):  # type: ignore[no-untyped-def]
    """Context of the mean of ``count`` energies that sum to ``total``."""
    mean = 8 * total // count if count > 0 else np.int64(_USUAL_ENERGY)
    return np.int64(contexts[min(mean, len(contexts) - 1)])


@inlined
def bin_of(probability, edges, bins):  # type: ignore[no-untyped-def]
    """The bin a probability falls into."""
    number = np.int64(bins[probability >> BIN_TABLE_SHIFT])
    if number < MAP_BINS - 1 and probability >= edges[number + 1]:
        number += 1
    return number


@inlined
def bent(probability, number, edges, heights, slopes):  # type: ignore[no-untyped-def]
    """The map's value at a probability in bin ``number``."""
    return heights[number] + (((probability - edges[number]) * slopes[number]) >> 16)


@inlined
def inverse(value, edges, heights, slopes):  # type: ignore[no-untyped-def]
    """Nearly the probability that the map sends to ``value``."""
    low, high = 0, MAP_BINS
    while high - low > 1:
        middle = (low + high) >> 1
        if value >= heights[middle]:
            low = middle
        else:
            high = middle
    within = ((value - heights[low]) << 16) // max(slopes[low], 1)
    return edges[low] + min(within, edges[low + 1] - edges[low])


@inlined
def observe(start, stop, bins, edges, counts, heights, slopes, timer):  # type: ignore[no-untyped-def]
    """Credit the bins from ``start`` to ``stop`` in proportion to their share; rebuild the map now and then."""
    first, last = bins
    if last == first:
        counts[first] += OBSERVATION
    else:
        below = bent(start, first, edges, heights, slopes)
        above = bent(stop, last, edges, heights, slopes)
        # one division for all bins: what is lost is below 2**-16 of an observation
        share = (OBSERVATION << SHARE_BITS) // max(above - below, 1)
        previous = below
        for number in range(first, last + 1):
            reached = above if number == last else heights[number + 1]
            counts[number] += ((reached - previous) * share) >> SHARE_BITS
            previous = reached
    timer[0] += 1
    if timer[0] >= timer[1]:
        timer[1] = timer[0] + max(FIRST_REBUILD, timer[0] >> REBUILD_SHIFT)
        _rebuild(edges, counts, heights, slopes)


@inlined
def _rebuild(edges, counts, heights, slopes):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for number in range(MAP_BINS):
        total += counts[number]
    if total > MOST_OBSERVATIONS:
        for number in range(MAP_BINS):
            counts[number] -= counts[number] >> 1
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
