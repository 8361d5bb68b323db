"""``codec bench export`` and ``codec bench audit``: what a results file holds, and whether it is so."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import codeckit

from ..formats.errors import CorruptFile
from .audit import audit
from .results import export_rows, load_results
from .store import Store

__all__ = ["AUDIT", "EXPORT"]


class ExportCommand:
    """Writes all rows as a table."""

    name = "export"
    summary = "rows of a results file as .csv, .parquet or .jsonl"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("results", metavar="RESULTS.sqlite")
        parser.add_argument("-o", "--output", metavar="FILE", required=True)

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        with Store(Path(options.results)) as store:
            results = load_results(store)
        export_rows(results, Path(options.output))
        return [{"output": options.output, "rows": len(results.rows)}]


class AuditCommand:
    """Derives every rate again from the files on disk, in a fresh process."""

    name = "audit"
    summary = "derive every rate again from the files on disk, in a fresh process"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("results", metavar="RESULTS.sqlite")
        parser.add_argument("--decode", type=int, default=1, metavar="N", help="files of each point to decode")

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        with Store(Path(options.results)) as store:
            report = audit(store, load_results(store), decoded_per_point=options.decode)
        if report.problems:
            raise CorruptFile("the audit found: " + "; ".join(report.problems[:10]))
        return [{"rates_checked": report.rates, "files_decoded": report.decoded, "problems": 0}]


EXPORT = ExportCommand()
AUDIT = AuditCommand()
