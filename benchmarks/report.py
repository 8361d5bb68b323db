"""The report: one self-contained page of curves, tables and the worst items, and the same curves as PNG pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..formats.atomic_file import AtomicFile
from .comparisons import BDRow, CorrelationRow, bd_table, correlation_table
from .curves import Board, CurvePoint, make_boards
from .rates import RATE_UNITS
from .report_plots import save_plots
from .results import ResultRow, Results
from .statistics import Interval
from .store import Store
from .worst_items import worst_items

__all__ = ["report_data", "write_report"]

_TEMPLATE = Path(__file__).resolve().parent / "report_template"


def write_report(
    store: Store, results: Results, target: Path, *, anchor: str | None = None, resamples: int = 500, plots: bool = True
) -> list[Path]:
    """Write the page to ``target`` and PNG plots beside it; returns everything that was written."""
    boards = make_boards(results)
    data = report_data(store, results, boards, anchor=anchor, resamples=resamples)
    # "</" would end the script element early
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    page = (_TEMPLATE / "page.html").read_text(encoding="utf-8")
    for mark, name in (("/*STYLE*/", "style.css"), ("/*SCRIPT*/", "script.js")):
        page = page.replace(mark, (_TEMPLATE / name).read_text(encoding="utf-8"))
    with AtomicFile(target, overwrite=True) as output:
        output.stream.write(page.replace("/*DATA*/", text).encode("utf-8"))
        output.commit()
    return [target, *(save_plots(boards, target) if plots else [])]


def report_data(
    store: Store, results: Results, boards: Sequence[Board], *, anchor: str | None = None, resamples: int = 500
) -> dict[str, Any]:
    """Everything the page shows, as plain data without NaN."""
    done = sum(row.status == "ok" for row in results.rows)
    return {
        "boards": [_board(store, results, board, anchor, resamples) for board in boards],
        "environment": dict(results.provenance),
        "run": {key: _finite(value) for key, value in results.summary.items()},
        "counts": {"planned": results.planned, "ok": done, "errors": len(results.rows) - done},
        "skipped": [{"what": what, "name": name, "reason": reason} for what, name, reason in results.skips],
        "errors": [
            {"item": row.item, "curve": row.curve, "settings": row.settings, "reason": row.reason}
            for row in results.rows
            if row.status != "ok"
        ][:200],
    }


def _board(store: Store, results: Results, board: Board, anchor: str | None, resamples: int) -> dict[str, Any]:
    rows = [row for row in results.rows if row.data_set == board.data_set and row.status == "ok"]
    return {
        "data": board.data_set,
        "kind": board.kind,
        "rateUnit": RATE_UNITS[board.kind],
        "items": len(board.items),
        "leftOut": board.left_out,
        "scorers": [
            {
                "name": one.name,
                "title": one.title,
                "unit": one.unit,
                "higher": one.higher_is_better,
                "task": one.is_task,
            }
            for one in board.scorers.values()
        ],
        "points": [_point(point) for point in board.points],
        "bd": [_bd(row) for row in bd_table(board, anchor=anchor, resamples=resamples)],
        "correlations": [_correlation(row) for row in correlation_table(board)],
        "worst": worst_items(store, board, rows),
        "rows": _columns(board, rows),
    }


def _point(point: CurvePoint) -> dict[str, Any]:
    return {
        "curve": point.curve,
        "codec": point.codec,
        "settings": point.settings,
        "rate": point.rate,
        "bytes": point.file_bytes,
        "scores": {name: _interval(found) for name, found in point.scores.items()},
        "mcnemar": {
            name: {"lost": test.only_first, "won": test.only_second, "p": test.p_value}
            for name, test in point.against_original.items()
        },
        "encode": point.encode_seconds,
        "decode": point.decode_seconds,
        "memory": point.peak_memory_bytes,
    }


def _bd(row: BDRow) -> dict[str, Any]:
    return {
        "curve": row.curve,
        "anchor": row.anchor,
        "scorer": row.scorer,
        "rate": _finite(row.rate.value),
        "low": _finite(row.interval.low),
        "high": _finite(row.interval.high),
        "metric": _finite(row.metric.value),
        "overlap": row.rate.overlap,
        "reason": row.rate.reason or row.interval.reason,
        "warnings": list(row.rate.warnings),
    }


def _correlation(row: CorrelationRow) -> dict[str, Any]:
    found = row.correlation
    return {"metric": row.metric, "task": row.task, "points": row.points, **_interval(found), "reason": found.reason}


def _interval(found: Interval) -> dict[str, Any]:
    return {"value": _finite(found.value), "low": _finite(found.low), "high": _finite(found.high)}


def _columns(board: Board, rows: Sequence[ResultRow]) -> dict[str, Any]:
    """All rows of a data set as columns, names as numbers into lists: small enough for tens of thousands."""
    items = list(dict.fromkeys(row.item for row in rows))
    points = {(point.curve, point.settings): number for number, point in enumerate(board.points)}
    item_number: Mapping[str, int] = {item: number for number, item in enumerate(items)}
    return {
        "items": items,
        "item": [item_number[row.item] for row in rows],
        "point": [points[row.curve, row.settings] for row in rows],
        "rate": [_short(row.rate) for row in rows],
        "scores": {name: [_short(row.scores.get(name)) for row in rows] for name in board.scorers},
    }


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
