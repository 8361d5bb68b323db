"""Search over a compressed file gives what decoding it and searching by brute force gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import codeckit
from codeckit import InvalidParameter, vectors

from . import synthetic


def by_brute_force(stored: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: str) -> Any:
    """Ranks every pair in float64, ties by row."""
    one, other = queries.astype(np.float64), stored.astype(np.float64)
    scores = np.zeros((len(one), len(other)))
    for j in range(one.shape[1]):  # in the order of the dimensions
        scores += (
            one[:, j, None] * other[None, :, j] if metric != "l2" else -((one[:, j, None] - other[None, :, j]) ** 2)
        )
    if metric == "cosine":
        lengths = np.sqrt(np.sum(one**2, axis=1))[:, None] * np.sqrt(np.sum(other**2, axis=1))[None, :]
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, order, axis=1)
    return (-found if metric == "l2" else found), order


@pytest.fixture(scope="module")
def store() -> bytes:
    stored = synthetic.embeddings(3000, unit=False)
    stored[100:140] = stored[100]  # equal scores, to be ordered by row
    stored[2000] = 0
    settings = {"dtype": "float8_e4m3", "pca": "50%", "block_rows": 256}
    return codeckit.encode(stored, codec="vectors", settings=settings)


@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_search_agrees_with_decode_then_search(store: bytes, metric: str) -> None:
    decoded = codeckit.decode(store)
    queries = np.concatenate([synthetic.embeddings(150, seed=3), decoded[[100, 120]], np.zeros((1, 32), np.float32)])
    scores, rows = by_brute_force(decoded, queries, 10, metric)
    for threads in (1, 3):
        with codeckit.open(store, context=codeckit.RunContext(threads=threads)) as reader:
            found = reader.search(queries, k=10, metric=metric)
            np.testing.assert_array_equal(found.rows, rows)
            np.testing.assert_allclose(found.scores, scores, rtol=1e-14, atol=1e-300)
            # one query at a time, the very same bits
            for number in (0, 77, 151):
                alone = reader.search(queries[number : number + 1], k=10, metric=metric)
                np.testing.assert_array_equal(alone.scores[0], found.scores[number])


@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_candidates_of_a_device_give_the_same_result(store: bytes, metric: vectors.Metric) -> None:
    """The path of CUDA, on torch's CPU device."""
    from codeckit.codecs.vectors.search import search_blocks

    queries = np.concatenate([synthetic.embeddings(70, seed=4), np.zeros((1, 32), np.float32)])
    with codeckit.open(store) as reader:
        expected = reader.search(queries, k=300, metric=metric)
        found = search_blocks(
            reader.vectors.blocks(), queries, dimensions=32, total=3000, k=300, metric=metric, threads=1, device="cpu:0"
        )
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_products_that_overflow_float32_are_still_ranked() -> None:
    stored = np.array([[1e30, -1e30], [1e30, 1e30], [-1e30, 2e30], [1, 1]], np.float32)
    data = codeckit.encode(stored, codec="vectors", preset="exact")
    found = vectors.search(data, np.array([[1e30, 1e30]], np.float32), k=4)
    assert found.rows.tolist() == [[1, 2, 3, 0]]


def test_fewer_vectors_than_asked_for() -> None:
    for rows in (0, 1, 3):
        data = codeckit.encode(synthetic.embeddings(rows, 8), codec="vectors")
        found = vectors.search(data, synthetic.embeddings(2, 8, seed=1), k=5)
        assert found.rows.shape == found.scores.shape == (2, rows)


@pytest.mark.parametrize(
    ("queries", "settings"),
    [
        (np.zeros((2, 31), np.float32), {}),
        (np.zeros(32, np.float32), {}),
        (np.full((2, 32), np.nan, np.float32), {}),
        (np.zeros((2, 32), np.float32), {"k": 0}),
        (np.zeros((2, 32), np.float32), {"metric": "hamming"}),
    ],
)
def test_bad_queries_are_refused(store: bytes, queries: NDArray[Any], settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        vectors.search(store, queries, **settings)


def test_other_files_are_refused() -> None:
    data = Path(__file__).parents[1].joinpath("kv", "golden", "kv-lossless.ck").read_bytes()
    with pytest.raises(InvalidParameter, match="holds no vectors"):
        vectors.search(data, np.zeros((1, 4), np.float32))


def test_faiss_ranks_the_decoded_vectors_alike(store: bytes) -> None:
    pytest.importorskip("faiss")
    queries = synthetic.embeddings(50, seed=9)
    index = vectors.to_faiss(store)
    assert index.ntotal == 3000
    scores, _ = index.search(queries, 10)
    np.testing.assert_allclose(scores, vectors.search(store, queries).scores, rtol=1e-4)
    trained = vectors.to_faiss(store, factory="IVF8,Flat", metric="cosine")
    assert (trained.ntotal, trained.is_trained) == (3000, True)
    with pytest.raises(InvalidParameter, match="FAISS refuses"):
        vectors.to_faiss(store, factory="Nonsense")


def test_without_faiss_the_error_says_what_to_install(store: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(codeckit.ExternalFailure, match="pip install 'codeckit\\[faiss\\]'"):
        vectors.to_faiss(store)
