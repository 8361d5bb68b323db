"""Measures one configuration of the codec ``vectors`` on vectors and queries: file, speed, ranking."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import codeckit
from codeckit import vectors
from codeckit.codecs.vectors.search import search_blocks
from codeckit.formats.vectors import open_source

from .vectors_quality import Judged, K, judge, mean_interval, relative_loss, without_self

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .vectors_grid import Configuration

__all__ = ["Measured", "Task", "exact_ranking", "measure"]

_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is compressed and searched.

    ``source`` is what ``codeckit.encode`` takes. ``own`` int64 [Q] says which row each query is, where queries were
    taken from the vectors; ``relevant`` int64 [Q, m] are judged rows, -1 where there are fewer.
    """

    name: str
    source: Any
    rows: int
    dimensions: int
    queries: NDArray[np.float32]
    own: NDArray[np.int64] | None
    relevant: NDArray[np.int64] | None
    metric: vectors.Metric

    @property
    def depth(self) -> int:
        """How many neighbours are searched: one more where a query finds itself."""
        return K + (self.own is not None)


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of the benchmark, and the scores of each query."""

    row: dict[str, Any]
    judged: Judged


def exact_ranking(task: Task, context: codeckit.RunContext) -> tuple[NDArray[np.int64], Judged]:
    """The ranking of the float32 vectors and how well it finds judged rows."""

    def blocks() -> Iterator[tuple[int, NDArray[np.float32]]]:
        with open_source(task.source, limits=context.limits) as source:
            first = 0
            for batch in source.batches(_BLOCK_ROWS):
                yield first, batch
                first += len(batch)
                context.report("exact search", first, task.rows, unit="vectors")

    found = search_blocks(
        blocks(),
        task.queries,
        dimensions=task.dimensions,
        total=task.rows,
        k=task.depth,
        metric=task.metric,
        threads=context.threads or 2,
    )
    rows = found.rows if task.own is None else without_self(found.rows, task.own)
    return rows, judge(rows, rows, task.relevant)


def measure(
    task: Task,
    configuration: Configuration,
    exact: tuple[NDArray[np.int64], Judged],
    folder: Path,
    context: codeckit.RunContext,
) -> Measured:
    """Encode, decode and search the file of one configuration; sizes are those of the file."""
    path = folder / "store.ck"
    settings = dict(configuration.settings)
    report = codeckit.encode(task.source, path, codec="vectors", settings=settings, context=context, overwrite=True)
    start = time.perf_counter()
    with codeckit.open(path, context=context) as reader:
        for _ in reader.vectors.blocks():
            pass
        decode_seconds = time.perf_counter() - start
        start = time.perf_counter()
        found = reader.search(task.queries, k=task.depth, metric=task.metric).rows
        search_seconds = time.perf_counter() - start
    plain = codeckit.encode(task.source, codec="vectors", settings={**settings, "entropy": "none"}, context=context)
    judged = judge(found if task.own is None else without_self(found, task.own), exact[0], task.relevant)
    gigabytes = 4 * task.rows * task.dimensions / 1e9
    size = path.stat().st_size
    row: dict[str, Any] = {
        "benchmark": "vectors",
        "data": task.name,
        "vectors": task.rows,
        "dimensions": task.dimensions,
        "queries": len(task.queries),
        "metric": task.metric,
        "settings": configuration.label,
        "file_bytes": size,
        "bytes_per_vector": size / task.rows,
        "times_smaller": 4 * task.rows * task.dimensions / size,
        "times_smaller_without_entropy_coding": 4 * task.rows * task.dimensions / len(plain),
        "entropy_gain_percent": 100 * (1 - size / len(plain)),
        **_interval("recall_10", mean_interval(judged.recall)),
        **_interval("ndcg_10", mean_interval(judged.ndcg)),
    }
    if judged.label_ndcg is not None and exact[1].label_ndcg is not None:
        row |= _interval("label_ndcg_10", mean_interval(judged.label_ndcg))
        row |= _interval("label_ndcg_10_loss_percent", relative_loss(exact[1].label_ndcg, judged.label_ndcg))
    row |= {
        "encode_gb_per_s": gigabytes / report.seconds,
        "decode_gb_per_s": gigabytes / decode_seconds,
        "search_seconds": search_seconds,
    }
    return Measured({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}, judged)


def _interval(name: str, found: Any) -> dict[str, float | None]:
    low, high = (None if np.isnan(edge) else edge for edge in (found.low, found.high))
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}
