"""``codec bench vectors``: which configuration serves an embedding store best, measured on one's own vectors.

The method of "Optimization of embeddings storage for RAG systems using quantization and dimensionality reduction
techniques" as a tool: a grid of number formats and projections, each judged against exact float32 search.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import codeckit

from ..formats.atomic_file import output_errors
from ..formats.errors import InvalidParameter
from ..formats.vectors import VectorSource, open_source
from .provenance import provenance
from .vectors_grid import (
    Configuration,
    Requirement,
    choose,
    default_grid,
    pareto_front,
    parse_configuration,
    parse_size,
)
from .vectors_measure import Measured, Task, exact_ranking, measure
from .vectors_plane import write_page, write_picture
from .vectors_quality import relative_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VECTORS", "VectorsCommand"]

_QUERIES = 1000
# (smaller file, larger file): what the paper says of them is that the first loses less
_PAPER_PAIRS = (
    ("dtype=float8_e4m3 pca=50%", "dtype=int8"),
    ("dtype=float8_e4m3 pca=50%", "dtype=int8 calibration=common"),
    ("dtype=float8_e4m3 pca=50%", "dtype=int4"),
    ("dtype=int6 calibration=common pca=100%", "dtype=float8_e4m3 pca=50%"),
    ("dtype=int8 calibration=common pca=100%", "dtype=float8_e4m3"),
    ("dtype=float8_e4m3", "dtype=int8"),
    ("dtype=float8_e4m3", "dtype=int8 calibration=common"),
    ("dtype=float8_e4m3", "dtype=float8_e4m3 scale=full"),
    ("dtype=float8_e4m3", "dtype=float8_e5m2"),
    ("dtype=float32 pca=50%", "dtype=float32 random_projection=192"),
)
_SHOWN = (
    "settings",
    "bytes_per_vector",
    "times_smaller",
    "recall_10",
    "ndcg_10",
    "label_ndcg_10_loss_percent",
    "entropy_gain_percent",
    "encode_gb_per_s",
    "decode_gb_per_s",
    "pareto",
)


class VectorsCommand:
    """Runs the grid and names the best."""

    name = "vectors"
    summary = "storage against ranking quality of embeddings, on your vectors or on embedded books; names the best"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("vectors", nargs="?", metavar="VECTORS", help="npy, safetensors, parquet; default: books")
        parser.add_argument("--queries", metavar="FILE", help=f"queries [Q, D]; default: {_QUERIES} of the vectors")
        parser.add_argument("--relevant", metavar="FILE.npy", help="rows relevant to each query, int [Q] or [Q, m]")
        parser.add_argument("--metric", choices=("cosine", "dot", "l2"), default="cosine")
        parser.add_argument(
            "--config", action="append", default=[], metavar="'KEY=VALUE ...'", help="instead of the grid"
        )
        wanted = parser.add_mutually_exclusive_group()
        wanted.add_argument("--budget", metavar="SIZE", help="name the best file of at most SIZE, such as 256MB")
        wanted.add_argument("--min-recall", type=float, metavar="R", help="name the smallest file with recall@10 >= R")
        parser.add_argument("-o", "--output", metavar="FILE", help="append the rows to FILE as JSON lines")
        parser.add_argument("--html", metavar="FILE", help="the plane of size and recall as a page")
        parser.add_argument("--png", metavar="FILE", help="the same as a picture")

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        task = _task(options, context)
        wanted = Requirement(None if options.budget is None else parse_size(options.budget), options.min_recall)
        grid = [parse_configuration(text) for text in options.config] or default_grid(task.dimensions)
        found = _measure_all(task, grid, context)
        rows = [item.row for _, item in found]
        origin = provenance()
        for number in pareto_front(rows):
            rows[number]["pareto"] = True
        written = [{**row, **origin} for row in [*rows, *_comparisons(task, found)]]
        if options.output is not None:
            with output_errors(options.output), Path(options.output).open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, allow_nan=False) + "\n" for row in written)
        if options.html is not None:
            write_page(rows, Path(options.html))
        if options.png is not None:
            write_picture(rows, Path(options.png))
        if wanted != Requirement():
            best, measured = found[choose(rows, wanted)]
            return [_advice(measured.row, best, options.vectors or "VECTORS")]
        return rows if options.json else [{name: row.get(name) for name in _SHOWN} for row in rows]


VECTORS = VectorsCommand()


def _measure_all(
    task: Task, grid: Sequence[Configuration], context: codeckit.RunContext
) -> list[tuple[Configuration, Measured]]:
    exact = exact_ranking(task, context)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, configuration in enumerate(grid):
            context.report("configurations", number, len(grid), unit="configurations")
            found.append((configuration, measure(task, configuration, exact, Path(folder), context)))
    return found


def _task(options: argparse.Namespace, context: codeckit.RunContext) -> Task:
    if options.vectors is None:
        if options.queries or options.relevant:
            raise InvalidParameter("--queries and --relevant belong to vectors of your own; name VECTORS too")
        from .sentence_embeddings import embedded_passages

        books = embedded_passages(report=lambda done, total: context.report("embed", done, total, unit="texts"))
        return Task(
            name="books, all-MiniLM-L6-v2",
            source=books.passages,
            rows=len(books.passages),
            dimensions=books.passages.shape[1],
            queries=books.queries,
            own=None,
            relevant=books.relevant[:, None],
            metric=options.metric,
        )
    with open_source(options.vectors, limits=context.limits) as source:
        if source.rows is None:
            raise InvalidParameter(
                f"{options.vectors}: the number of vectors is unknown; give npy, safetensors or Parquet"
            )
        rows, dimensions = source.rows, source.dimensions
        if rows < 2:
            raise InvalidParameter(f"{options.vectors}: {rows} vectors are too few to search among")
        own = None if options.queries else np.arange(min(_QUERIES, rows)) * rows // min(_QUERIES, rows)
        queries = _rows_of(source, own) if own is not None else _all_rows(options.queries, context)
    return Task(
        name=Path(options.vectors).name,
        source=options.vectors,
        rows=rows,
        dimensions=dimensions,
        queries=queries,
        own=own,
        relevant=None if options.relevant is None else _relevant(options.relevant, len(queries), rows),
        metric=options.metric,
    )


def _rows_of(source: VectorSource, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows ``numbers``, which rise, of a source."""
    found, first = [], 0
    for batch in source.batches(4096):
        found.append(batch[numbers[(numbers >= first) & (numbers < first + len(batch))] - first])
        first += len(batch)
    return np.concatenate(found)


def _all_rows(path: str, context: codeckit.RunContext) -> NDArray[np.float32]:
    with open_source(path, limits=context.limits) as source:
        rows = list(source.batches(4096))
    if not rows:
        raise InvalidParameter(f"{path} has no queries")
    return np.concatenate(rows)


def _relevant(path: str, queries: int, rows: int) -> NDArray[np.int64]:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"cannot read {path}: {error}") from error
    if (
        found.dtype.kind not in "iu"
        or found.ndim not in (1, 2)
        or len(found) != queries
        or found.max(initial=-1) >= rows
    ):
        raise InvalidParameter(
            f"{path}: {found.dtype} {list(found.shape)} are no rows below {rows} of {queries} queries"
        )
    result: NDArray[np.int64] = found.astype(np.int64).reshape(queries, -1)
    return result


def _comparisons(task: Task, found: Sequence[tuple[Configuration, Measured]]) -> list[dict[str, Any]]:
    """How much less the first of each pair loses than the second, over the same queries."""
    by_label = {configuration.label: item for configuration, item in found}
    rows = []
    for first, second in _PAPER_PAIRS:
        if first not in by_label or second not in by_label:
            continue
        one, other = by_label[first], by_label[second]
        row: dict[str, Any] = {"benchmark": "vectors-comparison", "data": task.name, "first": first, "second": second}
        for name in ("times_smaller_without_entropy_coding", "times_smaller"):
            row[f"first_{name}"], row[f"second_{name}"] = one.row[name], other.row[name]
        for name in ("recall", "ndcg", "label_ndcg"):
            before, after = getattr(other.judged, name), getattr(one.judged, name)
            if before is not None and after is not None:
                gain = relative_loss(before, after)
                row |= {
                    f"{name}_gain_percent": -gain.value,
                    f"{name}_gain_low": -gain.high,
                    f"{name}_gain_high": -gain.low,
                }
        rows.append({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
    return rows


def _advice(row: Mapping[str, Any], best: Configuration, source: str) -> dict[str, Any]:
    names = ("settings", "file_bytes", "bytes_per_vector", "recall_10", "recall_10_low", "recall_10_high", "ndcg_10")
    return {**{name: row[name] for name in names}, "apply": best.command(source)}
