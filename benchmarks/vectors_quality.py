"""How well a compressed store ranks: against exact search in the float32 vectors, and against judged relevance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .statistics import Interval, bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

__all__ = ["Judged", "K", "judge", "mean_interval", "relative_loss", "without_self"]

K = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of each query, [Q]; ``label_ndcg`` only where relevant vectors are known."""

    recall: Scores
    ndcg: Scores
    label_ndcg: Scores | None


def judge(found: NDArray[np.int64], exact: NDArray[np.int64], relevant: NDArray[np.int64] | None) -> Judged:
    """Score the ranking ``found`` [Q, k] of compressed vectors, k at most ``K``.

    ``exact`` [Q, k] is the ranking of the uncompressed vectors. recall@10 is the share of its rows that were found;
    nDCG@10 takes its n-th row as relevant with grade ``K - n``, n from 0 (Järvelin and Kekäläinen 2002, linear gain).
    ``relevant`` [Q, m] holds judged rows, all of one grade, -1 where there are fewer.
    """
    discount = 1 / np.log2(np.arange(found.shape[1]) + 2)
    same = found[:, :, None] == exact[:, None, :]  # [Q, found, exact]
    grades = K - np.arange(exact.shape[1], dtype=np.float64)
    gains = (same * grades).sum(axis=2)
    label = None
    if relevant is not None:
        hits = (found[:, :, None] == np.where(relevant < 0, -2, relevant)[:, None, :]).any(axis=2)
        numbers = np.minimum((relevant >= 0).sum(axis=1), found.shape[1])
        best = np.concatenate([[0.0], np.cumsum(discount)])[numbers]
        label = np.divide((hits * discount).sum(axis=1), best, out=np.zeros(len(found)), where=best > 0)
    return Judged(
        recall=same.any(axis=1).mean(axis=1),
        ndcg=(gains * discount).sum(axis=1) / float((grades * discount).sum()),
        label_ndcg=label,
    )


def without_self(rows: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop each query's ``own`` row, or the last one where it was not found: [Q, k + 1] to [Q, k]."""
    drop = rows == own[:, None]
    drop[~drop.any(axis=1), -1] = True
    kept: NDArray[np.int64] = rows[~drop].reshape(len(rows), -1)
    return kept


def mean_interval(scores: Scores, seed: int = 0) -> Interval:
    """The mean over queries with its 95 % bootstrap interval."""
    return bootstrap(lambda drawn: float(scores[drawn].mean()), len(scores), seed=seed)


def relative_loss(first: Scores, second: Scores, seed: int = 0) -> Interval:
    """By how many percent the mean of ``second`` is below that of ``first``, both resampled by the same queries."""

    def loss(drawn: NDArray[np.intp]) -> float:
        before = float(first[drawn].mean())
        return 100 * (before - float(second[drawn].mean())) / before if before else float("nan")

    statistic: Callable[[NDArray[np.intp]], float] = loss
    return bootstrap(statistic, len(first), seed=seed)
