"""Exact nearest neighbours over a compressed file, block by block: the result of decoding everything and searching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ...formats.errors import InvalidParameter
from ...formats.vector_source import as_float32
from . import search_kernels
from .ordered_threads import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Metric", "Neighbours", "search_blocks"]

Metric = Literal["dot", "cosine", "l2"]

_METRICS = {"dot": search_kernels.DOT, "cosine": search_kernels.COSINE, "l2": search_kernels.L2}
_QUERIES_A_TASK = 64
_NO_ROW = np.iinfo(np.int64).max


class Neighbours(NamedTuple):
    """``scores`` float64 [Q, k] and ``rows`` int64 [Q, k] of the k best, the best first and lower rows first of equals.

    Scores are products, cosines, or squared distances; sums in float64 in the order of the dimensions.
    """

    scores: NDArray[np.float64]
    rows: NDArray[np.int64]


def search_blocks(
    blocks: Iterable[tuple[int, Floats]],
    queries: Any,
    *,
    dimensions: int,
    total: int,
    k: int,
    metric: Metric,
    threads: int,
    device: str = "cpu",
) -> Neighbours:
    """For each query the ``min(k, total)`` best of ``total`` vectors, which come in ``blocks`` (first row, [n, D]).

    A float32 matrix product, on ``device``, bounds the score of each pair; pairs that may be among the best are scored
    exactly. So the result depends neither on blocks and threads nor on the device.

    Raises :class:`InvalidParameter` for queries that do not fit or are not finite, and unknown metrics.
    """
    if metric not in _METRICS:
        raise InvalidParameter(f"metric {metric!r} is not one of {', '.join(_METRICS)}")
    if k < 1:
        raise InvalidParameter(f"k={k} is not at least 1")
    wanted = _checked(queries, dimensions)
    keys = np.full((len(wanted), min(k, total)), -np.inf)
    rows = np.full(keys.shape, _NO_ROW)
    best = _Best(wanted, _METRICS[metric], keys, rows)
    if keys.size:
        consider = best.consider_on_host if device == "cpu" else best.consider_on_device
        # the tasks keep every core busy already
        with threadpool_limits(1, user_api="blas"):
            for first_row, vectors in blocks:
                consider(first_row, vectors, threads, device)
    return Neighbours(-keys if metric == "l2" else keys, rows)


class _Best:
    """The best pairs so far."""

    def __init__(self, queries: Floats, metric: int, keys: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        self._queries = queries
        self._squares = _squares(queries)
        self._metric = metric
        self._keys = keys
        self._rows = rows
        # a float32 sum of d products is off by at most d * 2**-24 of the product of lengths, in any order
        self._slack = 1.01 * (queries.shape[1] + 8) * 2.0**-24

    def consider_on_host(self, first_row: int, vectors: Floats, threads: int, _device: str) -> None:
        squares = _squares(vectors)

        def work(start: int) -> None:
            part = slice(start, start + _QUERIES_A_TASK)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is scored exactly
                products = self._queries[part] @ vectors.T
            search_kernels.consider_all(
                products,
                self._queries[part],
                vectors,
                self._squares[part],
                squares,
                first_row,
                self._metric,
                self._slack,
                self._keys[part],
                self._rows[part],
            )

        for _ in in_order(work, range(0, len(self._queries), _QUERIES_A_TASK), threads):
            pass

    def consider_on_device(self, first_row: int, vectors: Floats, _threads: int, device: str) -> None:
        squares = _squares(vectors)
        pairs = _promising_pairs(
            self._queries, vectors, self._squares, squares, self._keys[:, -1], self._metric, self._slack, device,
            self._keys.shape[1],
        )  # fmt: skip
        search_kernels.consider_pairs(
            pairs, self._queries, vectors, self._squares, squares, first_row, self._metric, self._keys, self._rows
        )


def _promising_pairs(
    queries: Floats,
    vectors: Floats,
    query_squares: NDArray[np.float64],
    vector_squares: NDArray[np.float64],
    floor: NDArray[np.float64],
    metric: int,
    slack: float,
    device: str,
    k: int,
) -> NDArray[np.int64]:
    """Pairs int64 [p, 2] whose score may exceed ``floor`` and the k-th best of the block, found by torch."""
    import torch  # heavy: only where it is asked for

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # the bound is that of float32
    try:
        products = (torch.from_numpy(queries).to(device) @ torch.from_numpy(vectors).to(device).T).double()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    q = torch.from_numpy(query_squares).to(device)[:, None]
    v = torch.from_numpy(vector_squares).to(device)[None, :]
    lengths = q.sqrt() * v.sqrt()
    if metric == search_kernels.DOT:
        middle, error = products, slack * lengths
    elif metric == search_kernels.COSINE:
        middle = torch.where(lengths > 0, products / lengths, 0.0)
        error = torch.full_like(middle, slack)
    else:
        middle, error = 2 * products - (q + v), 2 * slack * lengths + 1e-12 * (q + v)
    usable = products.isfinite()
    # at least k pairs reach the k-th largest lower bound, so what cannot reach it is not among the best
    lower = torch.where(usable, middle - error, -torch.inf)
    reached = lower.topk(min(k, lower.shape[1]), dim=1).values[:, -1] if lower.shape[1] >= k else None
    least = torch.from_numpy(floor).to(device)
    if reached is not None:
        least = torch.maximum(least, reached)
    return ((middle + error >= least[:, None]) | ~usable).nonzero().cpu().numpy()


def _squares(values: Floats) -> NDArray[np.float64]:
    result = np.empty(len(values))
    search_kernels.squared_norms(values, result)
    return result


def _checked(queries: Any, dimensions: int) -> Floats:
    shape = tuple(getattr(queries, "shape", ()))
    if len(shape) != 2 or shape[1] != dimensions:
        raise InvalidParameter(f"queries of shape {list(shape)} do not fit; expected [Q, {dimensions}]")
    _, wanted = as_float32(queries, "queries")
    wrong = np.flatnonzero(~np.isfinite(wanted).all(axis=1))
    if wrong.size:
        raise InvalidParameter(f"query {int(wrong[0])} holds values that are not finite")
    return wanted
