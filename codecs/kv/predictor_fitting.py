"""Fitting the parts of a profile: linear predictors of low rank, and the rotation of what they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["reduced_rank", "rotation"]

_RIDGE = 1e-4


def reduced_rank(inputs: Floats, target: Floats, rank: int) -> tuple[Floats, Floats]:
    """Ridge regression, then the best ``rank`` directions, errors weighed by their variance."""
    squares = inputs.T @ inputs
    ridge = _RIDGE * np.trace(squares) / len(squares) + 1e-30
    regularised = squares.astype(np.float64) + ridge * np.eye(len(squares))
    full = np.linalg.solve(regularised, (inputs.T @ target).astype(np.float64)).astype(np.float32)
    if rank >= min(full.shape):
        return full, np.eye(full.shape[1], dtype=np.float32)
    spread = np.sqrt(np.square(target - inputs @ full).mean(axis=0) + 1e-12)
    weighed = full / spread
    _, vectors = np.linalg.eigh((weighed.T @ squares @ weighed).astype(np.float64))
    kept = vectors[:, -rank:].astype(np.float32)
    down, up = weighed @ kept, kept.T * spread
    # columns of one size use the range of int8 best
    size = np.sqrt(np.square(inputs @ down).mean(axis=0)) + 1e-30
    return (down / size).astype(np.float32), (up * size[:, None]).astype(np.float32)


def rotation(errors: Floats) -> Floats:
    """The eigenvectors of each head's covariance, largest last: [heads, width, width]."""
    turned = errors.transpose(1, 2, 0)
    covariance = (turned @ turned.transpose(0, 2, 1)).astype(np.float64)
    return np.linalg.eigh(covariance)[1].astype(np.float32)
