# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""Scoring pairs of query and vector exactly, and keeping the best; compiled by Numba.

A score is a sum in float64 in the order of the dimensions, so it is the same on every machine and for every batch.
Matrix products in float32 only say which pairs cannot be among the best: their error is bounded.
"""

from __future__ import annotations

import math

import numpy as np

from ...entropy.native_compilation import compiled, inlined

__all__ = ["COSINE", "DOT", "L2", "consider_all", "consider_pairs", "squared_norms"]

DOT, COSINE, L2 = range(3)


@compiled
def squared_norms(values, result):
    """Float64 [n] of float32 ``values`` [n, d]."""
    for row in range(values.shape[0]):
        total = 0.0
        for j in range(values.shape[1]):
            total += np.float64(values[row, j]) * np.float64(values[row, j])
        result[row] = total


@inlined
def _key(metric, query, vector, query_square, vector_square):
    """What is to be largest: product, cosine, or negative squared distance."""
    total = 0.0
    if metric == L2:
        for j in range(query.size):
            difference = np.float64(query[j]) - np.float64(vector[j])
            total -= difference * difference
        return total
    for j in range(query.size):
        total += np.float64(query[j]) * np.float64(vector[j])
    if metric == COSINE:
        length = math.sqrt(query_square) * math.sqrt(vector_square)
        return total / length if length > 0 else 0.0
    return total


@inlined
def _upper_bound(metric, product, query_square, vector_square, slack):
    """The largest key that a pair can have whose product in float32 is ``product``."""
    length = math.sqrt(query_square) * math.sqrt(vector_square)
    if metric == DOT:
        return product + slack * length
    if metric == COSINE:
        return product / length + slack if length > 0 else slack
    squares = query_square + vector_square
    return 2 * (product + slack * length) - squares + 1e-12 * squares


@inlined
def _insert(keys, rows, key, row):
    """Put a pair where it belongs in a list sorted by falling key, then rising row; the last one drops out."""
    place = keys.size - 1
    if key < keys[place] or (key == keys[place] and row > rows[place]):
        return
    while place > 0 and (key > keys[place - 1] or (key == keys[place - 1] and row < rows[place - 1])):
        keys[place] = keys[place - 1]
        rows[place] = rows[place - 1]
        place -= 1
    keys[place] = key
    rows[place] = row


@compiled
def consider_all(
    products, queries, vectors, query_squares, vector_squares, first_row, metric, slack, keys, rows
):  # fmt: skip
    """Update the best of each query by a block of vectors.

    Args:
        products: float32 [q, n], queries times vectors, in any order of summation.
        queries, vectors: float32 [q, d] and [n, d]; their squared lengths float64 [q] and [n].
        first_row: the number of the first vector.
        slack: bound of the relative error of a product.
        keys, rows: float64 and int64 [q, k], sorted; unused places hold minus infinity and the largest number.
    """
    last = keys.shape[1] - 1
    for q in range(queries.shape[0]):
        for n in range(vectors.shape[0]):
            product = np.float64(products[q, n])
            bound = _upper_bound(metric, product, query_squares[q], vector_squares[n], slack)
            # not finite: the product overflowed in float32 and says nothing
            if bound >= keys[q, last] or not math.isfinite(product):
                key = _key(metric, queries[q], vectors[n], query_squares[q], vector_squares[n])
                _insert(keys[q], rows[q], key, first_row + n)


@compiled
def consider_pairs(
    pairs, queries, vectors, query_squares, vector_squares, first_row, metric, keys, rows
):  # fmt: skip
    """As :func:`consider_all` for the ``pairs``, int64 [p, 2] of query and vector, that were found worth a look."""
    for p in range(pairs.shape[0]):
        q, n = pairs[p, 0], pairs[p, 1]
        key = _key(metric, queries[q], vectors[n], query_squares[q], vector_squares[n])
        _insert(keys[q], rows[q], key, first_row + n)
