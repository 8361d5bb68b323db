"""State of the adaptive maps that mend the calibration of predicted CDFs while an image is coded.

An adaptive map is a piecewise linear, increasing function of a probability, kept per context. Its pieces are narrow
near 0 and 1; the mass of each follows how often symbols fall there. Two maps are chained: the first by the spread of
the prediction, the second by how far off the symbols around and before were, against what was predicted for them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .logistic_tables import CDF_ENTRIES_PER_UNIT, CDF_RANGE, logistic_tables
from .map_kernels import (
    BIN_TABLE_SHIFT,
    ENERGY_CONTEXTS,
    ENERGY_EDGES,
    LARGEST_ENERGY,
    MAP_BINS,
    OBSERVATION,
    SPREAD_CONTEXTS,
)
from .mixture_kernels import TOTAL

__all__ = ["MapState", "coding_tables", "new_maps"]

MapState = tuple[NDArray[np.int64], ...]

_PRIOR_OBSERVATIONS = 160
_OUTERMOST = 6


def new_maps(variables: int) -> MapState:
    """Maps that change nothing yet, for each of ``variables`` symbols of a block."""
    edges = _edges()
    return (edges, *_maps(variables, SPREAD_CONTEXTS, edges), *_maps(variables, ENERGY_CONTEXTS, edges))


@cache
def coding_tables() -> tuple[NDArray[Any], ...]:
    """What kernels look up: CDF, weights, inverse scales, variances; square roots, energy contexts, bins."""
    logistic = logistic_tables()
    # the root of a ratio, up to the largest energy
    roots = np.repeat(np.arange(LARGEST_ENERGY + 1), 2 * np.arange(LARGEST_ENERGY + 1) + 1).astype(np.uint8)
    contexts = np.searchsorted(ENERGY_EDGES, np.arange(8 * LARGEST_ENERGY + 1), side="right").astype(np.uint8)
    starts = np.arange((TOTAL >> BIN_TABLE_SHIFT) + 1) << BIN_TABLE_SHIFT
    bins = np.minimum(np.searchsorted(_edges(), starts, side="right") - 1, MAP_BINS - 1).astype(np.uint8)
    return (logistic.cdf, logistic.weight, logistic.inverse_scale, logistic.variance, roots, contexts, bins)


def _maps(variables: int, contexts: int, edges: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    shape = (variables, contexts)
    widths = np.diff(edges)
    prior = np.maximum(widths * (_PRIOR_OBSERVATIONS * OBSERVATION) // TOTAL, 1)
    counts = np.tile(prior, (*shape, 1))
    heights = np.tile(edges, (*shape, 1))
    slopes = np.full((*shape, MAP_BINS), 1 << 16, np.int64)
    timers = np.tile(np.array([0, 1], np.int64) * 8, (*shape, 1))
    return counts, heights, slopes, timers


@cache
def _edges() -> NDArray[np.int64]:
    """Bin edges at even steps of the logit from -6 to 6, and 0 and 1."""
    cdf = logistic_tables().cdf
    span = 2 * _OUTERMOST * CDF_ENTRIES_PER_UNIT
    steps = MAP_BINS - 2
    first = (CDF_RANGE - _OUTERMOST) * CDF_ENTRIES_PER_UNIT
    inner = [int(cdf[first + span * number // steps]) for number in range(steps + 1)]
    return np.array([0, *inner, TOTAL], np.int64)
