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
    FIRST_REBUILD,
    LARGEST_ENERGY,
    MAP_BINS,
    OBSERVATION,
    REBUILD_SHIFT,
    SPREAD_CONTEXTS,
)
from .mixture_kernels import TOTAL

__all__ = ["MapState", "carry_over", "coding_tables", "new_maps"]

MapState = tuple[NDArray[np.int64], ...]

_PRIOR_OBSERVATIONS = 160
_OUTERMOST = 6
_CARRIED_SHIFT = 2
_NEVER = 1 << 62


def new_maps(variables: int, *, learning: bool = True) -> MapState:
    """Maps that change nothing yet, for each of ``variables`` symbols of a block; nor ever, unless ``learning``."""
    edges = _edges()
    maps = (edges, *_maps(variables, SPREAD_CONTEXTS, edges), *_maps(variables, ENERGY_CONTEXTS, edges))
    if not learning:
        for timers in (maps[4], maps[8]):
            timers[..., 1] = _NEVER
    return maps


def carry_over(maps: MapState) -> None:
    """Begin another level: what coarser ones taught counts a quarter."""
    edges, *rest = maps
    prior = _prior(edges)
    for counts, heights, slopes, timers in (rest[:4], rest[4:]):
        if timers[0, 0, 1] == _NEVER:
            continue
        counts[...] = prior + ((counts - prior) >> _CARRIED_SHIFT)
        running = np.cumsum(counts, axis=2)
        heights[..., 1:-1] = (running[..., :-1] << 24) // running[..., -1:]
        slopes[...] = (np.diff(heights, axis=2) << 16) // np.diff(edges)
        timers[..., 0] >>= _CARRIED_SHIFT
        timers[..., 1] = timers[..., 0] + np.maximum(FIRST_REBUILD, timers[..., 0] >> REBUILD_SHIFT)


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
    counts = np.tile(_prior(edges), (*shape, 1))
    heights = np.tile(edges, (*shape, 1))
    slopes = np.full((*shape, MAP_BINS), 1 << 16, np.int64)
    timers = np.tile(np.array([0, FIRST_REBUILD], np.int64), (*shape, 1))
    return counts, heights, slopes, timers


def _prior(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts that stand for :data:`_PRIOR_OBSERVATIONS` under the identity."""
    return np.maximum(np.diff(edges) * (_PRIOR_OBSERVATIONS * OBSERVATION) // TOTAL, 1)


@cache
def _edges() -> NDArray[np.int64]:
    """Bin edges at even steps of the logit from -6 to 6, and 0 and 1."""
    cdf = logistic_tables().cdf
    span = 2 * _OUTERMOST * CDF_ENTRIES_PER_UNIT
    steps = MAP_BINS - 2
    first = (CDF_RANGE - _OUTERMOST) * CDF_ENTRIES_PER_UNIT
    inner = [int(cdf[first + span * number // steps]) for number in range(steps + 1)]
    return np.array([0, *inner, TOTAL], np.int64)
