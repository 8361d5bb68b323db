"""State of the online regression that corrects the network's means, see :mod:`.regression_kernels`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .regression_kernels import MOST_FEATURES, feature_count, start_level

__all__ = ["RegressionState", "carry_over", "new_regression"]

_RIDGE_OF_SMALL, _RIDGE_OF_LARGE = float(1 << 22), float(1 << 21)

RegressionState = tuple[NDArray[np.float64], ...]


def new_regression(channels: int, variables: int, *, hidden: int, active: bool) -> RegressionState:
    """Sums of products and with targets, coefficients, scratch, lasting ridge; empty where nothing is regressed.

    ``hidden`` is how many of the network's features take part.
    """
    count = feature_count(channels, variables, hidden) if active else 0
    if count > MOST_FEATURES:
        raise ValueError(f"{count} features could make sums that float64 rounds")
    square, flat = (count, count), (variables, count)
    ridge = np.array([_RIDGE_OF_LARGE if hidden else _RIDGE_OF_SMALL])
    return np.zeros(square), np.zeros(flat), np.zeros(flat), np.zeros(square), ridge


def carry_over(state: RegressionState) -> None:
    """Begin another level: what coarser ones taught counts for less."""
    start_level(state[0], state[1])
