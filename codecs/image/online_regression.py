"""State of the online regression that corrects the network's means, see :mod:`.regression_kernels`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .regression_kernels import MOST_FEATURES, feature_count, start_level

__all__ = ["RegressionState", "carry_over", "new_regression"]

RegressionState = tuple[NDArray[np.float64], ...]


def new_regression(channels: int, variables: int, *, active: bool) -> RegressionState:
    """Sums of products, sums with targets, coefficients and scratch space; all empty where nothing is regressed."""
    count = feature_count(channels, variables) if active else 0
    if count > MOST_FEATURES:
        raise ValueError(f"{count} features could make sums that float64 rounds")
    square = (count, count)
    return (np.zeros(square), np.zeros((variables, count)), np.zeros((variables, count)), np.zeros(square))


def carry_over(state: RegressionState) -> None:
    """Begin another level: what coarser ones taught counts for less."""
    gram, cross, _, _ = state
    start_level(gram, cross)
