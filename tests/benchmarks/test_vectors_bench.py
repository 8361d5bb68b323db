"""``codec bench vectors``: the figures of rankings, the choice of a configuration, and the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codeckit.benchmarks.sentence_embeddings import cut_passages
from codeckit.benchmarks.vectors_grid import Requirement, choose, default_grid, pareto_front, parse_size
from codeckit.benchmarks.vectors_quality import judge, without_self
from codeckit.formats.errors import InvalidParameter


def test_ndcg_is_that_of_scikit_learn_definition() -> None:
    exact = np.array([[4, 2, 9, 7]])
    found = np.array([[2, 4, 8, 9]])
    gains = {4: 10, 2: 9, 9: 8, 7: 7}
    dcg = sum(gains.get(row, 0) / np.log2(place + 2) for place, row in enumerate(found[0].tolist()))
    ideal = sum(gains[row] / np.log2(place + 2) for place, row in enumerate(exact[0].tolist()))
    judged = judge(found, exact, np.array([[9, -1]]))
    assert judged.ndcg[0] == pytest.approx(dcg / ideal)
    assert judged.recall[0] == 0.75
    assert judged.label_ndcg is not None
    assert judged.label_ndcg[0] == pytest.approx(1 / np.log2(5))
    perfect = judge(exact, exact, np.array([[4, 2]]))
    assert (perfect.recall[0], perfect.ndcg[0], perfect.label_ndcg[0]) == (1, 1, 1)  # type: ignore[index]


def test_a_query_does_not_find_itself() -> None:
    rows = np.array([[5, 1, 2], [8, 6, 7]])
    np.testing.assert_array_equal(without_self(rows, np.array([1, 3])), [[5, 2], [8, 6]])


ROWS: list[dict[str, Any]] = [
    {"bytes_per_vector": 400.0, "file_bytes": 40_000, "recall_10": 0.99},
    {"bytes_per_vector": 100.0, "file_bytes": 10_000, "recall_10": 0.9},
    {"bytes_per_vector": 120.0, "file_bytes": 12_000, "recall_10": 0.85},
    {"bytes_per_vector": 50.0, "file_bytes": 5_000, "recall_10": 0.6},
]


def test_the_best_within_a_budget_and_above_a_recall() -> None:
    assert pareto_front(ROWS) == [3, 1, 0]
    assert choose(ROWS, Requirement(budget_bytes=12_000)) == 1
    assert choose(ROWS, Requirement(min_recall=0.97)) == 0
    for impossible in (Requirement(budget_bytes=4_999), Requirement(min_recall=0.995)):
        with pytest.raises(InvalidParameter):
            choose(ROWS, impossible)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("256MB", "1.5 GiB", "100000", "3k")] == [256 * 10**6, 3 << 29, 100_000, 3000]
    for bad in ("", "MB", "3XB", "-1MB"):
        with pytest.raises(InvalidParameter):
            parse_size(bad)


def test_passages_lose_the_sentence_that_becomes_a_query() -> None:
    sentence = "Number {} tells a reader a thing or two of some length about what befell the ship that day."
    book = "\n\n".join(" ".join(sentence.format(10 * part + n) for n in range(4)) for part in range(30))
    found = cut_passages(book, 20, 2)
    assert (len(found.texts), len(found.queries)) == (20, 10)
    for query, row in zip(found.queries, found.relevant, strict=True):
        assert query not in found.texts[row]
    with pytest.raises(InvalidParameter):
        cut_passages(book, 200, 2)


def test_the_grid_has_each_configuration_once() -> None:
    labels = [configuration.label for configuration in default_grid(384)]
    assert len(set(labels)) == len(labels)
    assert "dtype=float8_e4m3 pca=50%" in labels


def test_the_command_names_the_best_and_how_to_apply_it(tmp_path: Path, run_codec: Callable[..., Any]) -> None:
    generator = np.random.default_rng(0)
    np.save(tmp_path / "in.npy", generator.standard_normal((1500, 16)).astype(np.float32))
    words = ["bench", "vectors", tmp_path / "in.npy", "--metric", "dot", "--json", "-q"]
    words += ["--config", "dtype=float16", "--config", "dtype=int8", "--config", "dtype=binary"]
    files = {name: tmp_path / name for name in ("rows.jsonl", "plane.html", "plane.png")}
    done = run_codec(
        *words,
        "--min-recall",
        "0.9",
        "-o",
        files["rows.jsonl"],
        "--html",
        files["plane.html"],
        "--png",
        files["plane.png"],
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)
    assert best["settings"] == "dtype=int8"
    rows = [json.loads(line) for line in files["rows.jsonl"].read_text().splitlines()]
    assert [row["settings"] for row in rows] == ["dtype=float16", "dtype=int8", "dtype=binary"]
    assert rows[0]["recall_10"] > 0.99
    assert rows[1]["recall_10_low"] <= rows[1]["recall_10"] <= rows[1]["recall_10_high"]
    assert files["plane.html"].read_text().count("<circle") == 3 + 1
    assert files["plane.png"].read_bytes().startswith(b"\x89PNG")
    applied = run_codec(*best["apply"].split()[1:])
    assert applied.returncode == 0, applied.stderr
    assert (tmp_path / "in.npy.ck").stat().st_size == best["file_bytes"]
