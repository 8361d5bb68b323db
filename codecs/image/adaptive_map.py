"""State of the adaptive maps that mend the calibration of predicted CDFs while an image is coded.

An adaptive map is a piecewise linear, increasing function of a probability, kept per context. Its pieces are narrow
near 0 and 1; the mass of each follows how often symbols fall there. Two maps are chained: the first by the spread of
the prediction, the second by how far off the symbol before was.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .block_kernels import ERROR_CONTEXTS, MAP_BINS, OBSERVATION, SPREAD_CONTEXTS, TOTAL
from .logistic_tables import CDF_ENTRIES_PER_UNIT, CDF_RANGE, logistic_tables

__all__ = ["MapState", "new_maps"]

MapState = tuple[NDArray[np.int64], ...]

_PRIOR_OBSERVATIONS = 40
_OUTERMOST = 6


def new_maps(variables: int) -> MapState:
    """Maps that change nothing yet, for each of ``variables`` symbols of a block."""
    edges = _edges()
    return (edges, *_maps(variables, SPREAD_CONTEXTS, edges), *_maps(variables, ERROR_CONTEXTS, edges))


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
