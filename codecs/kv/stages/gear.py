"""GEAR's residual stage: a sparse matrix of outliers and a low-rank matrix on top of any quantiser.

Kang et al., "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM"
(arXiv 2403.05527), section 3 and algorithm 1: ``X = D + L + S``. ``S = Filter_s(X)`` takes the largest and the smallest
``s / 2`` of every vector that the quantiser scales (channels of keys, tokens of values), ``D`` quantises the rest and
``L`` is the best approximation of rank ``r`` to what is left, for every head by itself.

The paper keeps ``S`` and the factors of ``L`` in 16 bits. Here an outlier is a level of its group in sixteenths of a
step, and factors are integers up to 15 with a scale for each column; both are entropy coded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .groups import FINEST_STEP, step_index, step_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = ["MAX_FACTOR", "LowRank", "find_outliers", "fit_low_rank", "low_rank_values"]

MAX_FACTOR = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """Factors int64 ``left`` [rows, rank] and ``right`` [length, rank] with a scale index for each column of both.

    ``scales`` is int64 [2, rank].
    """

    left: Integers
    right: Integers
    scales: Integers


def find_outliers(rows: Floats, share: float) -> tuple[NDArray[np.bool_], Floats]:
    """Which elements of ``rows`` [rows, length] are outliers, and the rows with those moved to the nearest other value.

    The largest and the smallest ``share / 2`` of each row, at least one of each; none where rows are too short.
    """
    length = rows.shape[1]
    count = max(1, round(share / 2 * length))
    chosen = np.zeros(rows.shape, np.bool_)
    if 4 * count > length:
        return chosen, rows
    order = np.argpartition(rows, (count - 1, count, length - count - 1, length - count), axis=1)
    ends = np.concatenate([order[:, :count], order[:, length - count :]], axis=1)
    np.put_along_axis(chosen, ends, True, axis=1)
    low = np.take_along_axis(rows, order[:, count : count + 1], axis=1)
    high = np.take_along_axis(rows, order[:, length - count - 1 : length - count], axis=1)
    return chosen, np.clip(rows, low, high)


def fit_low_rank(residual: Floats, rank: int) -> LowRank:
    """The best approximation of that rank to ``residual`` [rows, length], in quantised factors."""
    swapped = residual.shape[0] < residual.shape[1]
    tall = residual.T if swapped else residual
    vectors = np.linalg.eigh((tall.T @ tall).astype(np.float64))[1][:, ::-1][:, :rank].astype(np.float32)
    projected = tall @ vectors
    norms = np.sqrt(np.maximum(np.sqrt(np.square(projected).sum(axis=0)), np.float32(1e-20)))
    factors = [_quantise_columns(projected / norms), _quantise_columns(vectors * norms)]
    if swapped:
        factors.reverse()
    return LowRank(left=factors[0][0], right=factors[1][0], scales=np.stack([factors[0][1], factors[1][1]]))


def low_rank_values(code: LowRank) -> Floats:
    """The matrix that the factors stand for: float32 [rows, length]."""
    left = code.left.astype(np.float32) * step_values(code.scales[0])
    right = code.right.astype(np.float32) * step_values(code.scales[1])
    product: Floats = left @ right.T
    return product


def _quantise_columns(columns: Floats) -> tuple[Integers, Integers]:
    peaks = np.abs(columns).max(axis=0).astype(np.float64)
    # half of the finest step of values, so that products of two factors reach as far down
    scales = np.maximum(step_index(peaks / MAX_FACTOR), FINEST_STEP // 2)
    return np.rint(columns / step_values(scales)).astype(np.int64), scales
