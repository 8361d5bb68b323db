"""A results file in few rows: every point, Bjøntegaard delta and correlation, and what the run took, with provenance.

These are the rows that are kept in the repository and from which the tables of the documentation are made.
"""

from __future__ import annotations

import math
from typing import Any

from .comparisons import bd_table, correlation_table
from .curves import Board, CurvePoint, make_boards
from .results import Results

__all__ = ["summary_rows"]


def summary_rows(results: Results, *, anchor: str | None = None, resamples: int = 500) -> list[dict[str, Any]]:
    """Rows of four kinds, named by ``row``: ``run``, ``point``, ``bd`` and ``correlation``."""
    rows: list[dict[str, Any]] = _run(results)
    for board in make_boards(results):
        common = {"benchmark": "sweep", "data": board.data_set, "items": len(board.items)}
        rows += [{**common, "row": "point", **_point(board, point), **results.provenance} for point in board.points]
        rows += [
            {
                **common,
                "row": "bd",
                "codec": one.curve,
                "anchor": one.anchor,
                "scorer": one.scorer,
                "bd_rate_percent": _finite(one.rate.value),
                "interval": _span(one.interval.low, one.interval.high, 1),
                "overlap": round(one.rate.overlap, 3),
                "warnings": "; ".join([*filter(None, [one.rate.reason, one.interval.reason]), *one.rate.warnings]),
                **results.provenance,
            }
            for one in bd_table(board, anchor=anchor, resamples=resamples)
        ]
        rows += [
            {
                **common,
                "row": "correlation",
                "metric": one.metric,
                "task": one.task,
                "points": one.points,
                "spearman": _finite(one.correlation.value),
                "interval": _span(one.correlation.low, one.correlation.high, 3),
                **results.provenance,
            }
            for one in correlation_table(board)
        ]
    return rows


def _run(results: Results) -> list[dict[str, Any]]:
    """What the latest run spent where; none when it had nothing left to do."""
    found = dict(results.summary)
    if not found.get("coding_seconds"):
        return []
    seconds = {name: round(value, 2) for name, value in found.items() if name.endswith("_seconds")}
    share = round(100 * found["harness_seconds"] / found["coding_seconds"], 1)
    data = ", ".join(dict.fromkeys(row.data_set for row in results.rows))
    common = {"benchmark": "sweep", "row": "run", "data": data, "cells": found["computed"]}
    return [{**common, **seconds, "harness_percent_of_coding": share, **results.provenance}]


def _point(board: Board, point: CurvePoint) -> dict[str, Any]:
    row: dict[str, Any] = {
        "codec": point.curve,
        "settings": point.settings,
        "rate": round(point.rate, 5),
        "file_bytes": point.file_bytes,
        "encode_seconds": round(point.encode_seconds, 4),
        "decode_seconds": round(point.decode_seconds, 4),
    }
    for name, found in point.scores.items():
        row[name] = round(found.value, 5)
        if board.scorers[name].is_task:
            row[f"{name}_interval"] = _span(found.low, found.high, 3)
    for name, test in point.against_original.items():
        row[f"{name}_mcnemar_p"] = float(f"{test.p_value:.3g}")
    return row


def _span(low: float, high: float, digits: int) -> str:
    return f"[{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) and math.isfinite(high) else ""


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
