"""Results as they are read: a row for each item at each point, with the rate derived from its file and its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..formats.errors import ExternalFailure, InvalidParameter
from .rates import rate
from .store import Store

__all__ = ["ResultRow", "Results", "ScorerInfo", "export_rows", "flat_row", "load_results"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerInfo:
    """How a score is to be read."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    is_task: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One item at one point; ``rate`` is in the unit of its kind (``RATE_UNITS``), None unless ``status`` is ``ok``."""

    cell: str
    data_set: str
    item: str
    kind: str
    label: str | None
    codec: str
    curve: str
    settings: str
    version: str
    status: str
    reason: str | None
    input_path: str
    file: str | None
    file_bytes: int | None
    divisor: float | None
    rate: float | None
    encode_seconds: float | None
    decode_seconds: float | None
    peak_memory_bytes: int | None
    scores: Mapping[str, float]
    details: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that a store holds of its current sweeps, rows in the order of the sweep."""

    rows: Sequence[ResultRow]
    scorers: Mapping[str, ScorerInfo]
    skips: Sequence[tuple[str, str, str]]
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]
    planned: int


def load_results(store: Store) -> Results:
    """Read everything of every sweep in ``store``; raises :class:`InvalidParameter` when there is nothing yet."""
    ask = store.connection.execute
    planned = ask("SELECT count(*) FROM members").fetchone()[0]
    if not planned:
        raise InvalidParameter(f"{store.path} holds no sweep yet")
    scorers = {
        name: ScorerInfo(name=name, title=title, unit=unit, higher_is_better=bool(higher), is_task=bool(task))
        for name, title, unit, higher, task in ask(
            "SELECT scorer, title, unit, higher_is_better, is_task FROM scorers ORDER BY sweep, position"
        )
    }
    scores: dict[str, dict[str, float]] = {}
    details: dict[str, dict[str, Any]] = {}
    for cell, scorer, value, detail in ask(
        "SELECT cell, scorer, value, detail FROM scores JOIN (SELECT DISTINCT scorer, version FROM scorers) "
        "USING (scorer, version) WHERE value IS NOT NULL"
    ):
        scores.setdefault(cell, {})[scorer] = value
        if detail != "{}":
            details.setdefault(cell, {})[scorer] = json.loads(detail)
    rows = [
        _row(values, scores, details)
        for values in ask(
            "SELECT cell, data_set, item, kind, label, codec, curve, settings, version, status, reason, input_path, "
            "file, file_bytes, divisor, encode_seconds, decode_seconds, peak_memory_bytes "
            "FROM members JOIN cells USING (cell) ORDER BY sweep, position"
        )
    ]
    provenance, summary = ask("SELECT provenance, summary FROM runs ORDER BY run DESC LIMIT 1").fetchone()
    return Results(
        rows=rows,
        scorers=scorers,
        skips=list(ask("SELECT DISTINCT what, name, reason FROM skips")),
        provenance=json.loads(provenance),
        summary=json.loads(summary) if summary else {},
        planned=planned,
    )


def flat_row(row: ResultRow, scorers: Mapping[str, ScorerInfo]) -> dict[str, Any]:
    """A row as one level of named values, every scorer a column."""
    plain = {name: getattr(row, name) for name in ResultRow.__dataclass_fields__ if name not in ("scores", "details")}
    return {**plain, **{name: row.scores.get(name) for name in scorers}}


def export_rows(results: Results, target: Path) -> None:
    """Write all rows as ``.csv``, ``.parquet`` or ``.jsonl``; raises :class:`InvalidParameter` for another suffix."""
    rows = [flat_row(row, results.scorers) for row in results.rows]
    if target.suffix not in (".csv", ".parquet", ".jsonl"):
        raise InvalidParameter(f"rows are written as .csv, .parquet or .jsonl, not {target.suffix or target.name}")
    if target.suffix == ".jsonl":
        target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ExternalFailure("pyarrow is not installed; pip install 'codeckit[bench]' brings it") from error
    table = pyarrow.Table.from_pylist(rows)
    if target.suffix == ".csv":
        pyarrow.csv.write_csv(table, target)
    else:
        pyarrow.parquet.write_table(table, target)


def _row(values: Sequence[Any], scores: Mapping[str, Any], details: Mapping[str, Any]) -> ResultRow:
    names = [name for name in ResultRow.__dataclass_fields__ if name not in ("rate", "scores", "details")]
    known = dict(zip(names, values, strict=True))
    cell = known["cell"]
    known["settings"] = " ".join(f"{name}={value}" for name, value in json.loads(known["settings"]).items())
    sized = known["status"] == "ok"
    return ResultRow(
        **known,
        rate=rate([known["file_bytes"]], [known["divisor"]]) if sized else None,
        scores=scores.get(cell, {}),
        details=details.get(cell, {}),
    )
