"""``codec bench report``, ``diff``, ``export`` and ``audit``: what results files hold, and whether it is so."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import codeckit

from ..formats.atomic_file import output_errors
from ..formats.errors import CorruptFile, InvalidParameter
from .audit import audit
from .diff import Regression, compare, parse_percent, regressions
from .report import write_report
from .results import export_rows, load_results
from .store import Store
from .summary_rows import summary_rows

__all__ = ["AUDIT", "DIFF", "EXPORT", "REPORT"]


class ReportCommand:
    """Writes one self-contained page with plots beside it."""

    name = "report"
    summary = "a results file as one self-contained page, with PNG plots beside it"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("results", metavar="RESULTS.sqlite")
        parser.add_argument("-o", "--output", metavar="FILE.html", required=True)
        parser.add_argument("--anchor", metavar="CURVE", help="what Bjøntegaard deltas are against (the first curve)")
        parser.add_argument("--resamples", type=int, default=500, metavar="N", help="of bootstrap intervals of deltas")
        parser.add_argument("--no-plots", action="store_true", help="the page alone")

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        with Store(Path(options.results)) as store:
            written = write_report(
                store,
                load_results(store),
                Path(options.output),
                anchor=options.anchor,
                resamples=options.resamples,
                plots=not options.no_plots,
            )
        return [{"written": str(path), "bytes": path.stat().st_size} for path in written]


class DiffCommand:
    """Compares two results files; made for continuous integration."""

    name = "diff"
    summary = "compare two results files; --fail-if-worse 1% makes a loss an error"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("before", metavar="BEFORE.sqlite")
        parser.add_argument("after", metavar="AFTER.sqlite")
        parser.add_argument("--fail-if-worse", metavar="PERCENT", help="exit with 1 when anything is worse")

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        limit = parse_percent(options.fail_if_worse) if options.fail_if_worse is not None else None
        with Store(Path(options.before)) as before, Store(Path(options.after)) as after:
            differences = compare(load_results(before), load_results(after))
        if limit is not None:
            worse = regressions(differences, limit)
            if worse:
                lines = [
                    f"{one.data_set} {one.curve} {one.settings}: {one.figure} {one.before:.6g} -> {one.after:.6g}"
                    for one in worse
                ]
                raise Regression(f"{len(worse)} figures are worse by more than {limit:g} %: " + "; ".join(lines[:10]))
        return [
            {
                "data": one.data_set,
                "codec": one.curve,
                "settings": one.settings,
                "figure": one.figure,
                "before": one.before,
                "after": one.after,
                "worse_percent": round(one.worse_percent, 4) if math.isfinite(one.worse_percent) else None,
            }
            for one in differences
        ]


class ExportCommand:
    """Writes all rows as a table."""

    name = "export"
    summary = "rows of a results file as .csv, .parquet or .jsonl; with --summary only points, deltas and correlations"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("results", metavar="RESULTS.sqlite")
        parser.add_argument("-o", "--output", metavar="FILE", required=True)
        parser.add_argument("--summary", action="store_true", help="append a row for each point, delta and correlation")
        parser.add_argument("--anchor", metavar="CURVE", help="what deltas are against (the first curve)")

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        with Store(Path(options.results)) as store:
            results = load_results(store)
        target = Path(options.output)
        if not options.summary:
            export_rows(results, target)
            return [{"output": options.output, "rows": len(results.rows)}]
        if target.suffix != ".jsonl":
            raise InvalidParameter("a summary is written as .jsonl")
        rows = summary_rows(results, anchor=options.anchor)
        with output_errors(options.output), target.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        return [{"output": options.output, "rows": len(rows)}]


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


REPORT = ReportCommand()
DIFF = DiffCommand()
EXPORT = ExportCommand()
AUDIT = AuditCommand()
