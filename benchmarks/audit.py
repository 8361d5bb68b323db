"""The audit: a fresh process derives every rate again from the files on disk, and decodes a sample of them.

It shares no state with the harness and does not use the harness's own derivation of rates, so a slip there (bytes taken
for bits, a payload for a file, a stale row) shows as a difference.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..formats.errors import ExternalFailure
from .results import ResultRow, Results
from .store import Store

__all__ = ["AuditReport", "audit"]

# so many files of each point are decoded and scored again, spread evenly over the items
DECODED_PER_POINT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """How many rates and how many decoded files were checked, and what did not agree, one line each."""

    rates: int
    decoded: int
    problems: Sequence[str]


def audit(store: Store, results: Results, *, decoded_per_point: int = DECODED_PER_POINT) -> AuditReport:
    """Check the claims of ``results`` in a fresh process; raises :class:`ExternalFailure` when that fails to run."""
    rows = [row for row in results.rows if row.status == "ok" and row.file is not None]
    chosen = _sample(rows, decoded_per_point)
    params = dict(store.connection.execute("SELECT cell, params FROM cells"))
    claims = [
        {
            "name": f"{row.curve} {row.settings} {row.item}",
            "kind": row.kind,
            "codec": row.codec,
            "params": json.loads(params[row.cell]),
            "input": row.input_path,
            "label": row.label,
            "file": str(store.files / str(row.file)),
            "file_bytes": row.file_bytes,
            "rate": row.rate,
            "scores": row.scores if row.cell in chosen else None,
        }
        for row in rows
    ]
    command = [sys.executable, "-m", "codeckit.benchmarks.audit_process"]
    done = subprocess.run(command, input=json.dumps(claims).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise ExternalFailure(f"the audit's process failed: {done.stderr.decode(errors='replace')[-2000:]}")
    return AuditReport(**json.loads(done.stdout))


def _sample(rows: Sequence[ResultRow], per_point: int) -> set[str]:
    by_point: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        by_point.setdefault((row.data_set, row.curve, row.settings), []).append(row.cell)
    return {
        cells[number * len(cells) // per_point]
        for cells in by_point.values()
        for number in range(min(per_point, len(cells)))
    }
