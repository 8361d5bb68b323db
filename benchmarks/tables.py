"""Fills the tables of README and docs from measured rows, so that no figure is typed by hand.

A table in a Markdown file stands between two comments::

    <!-- table video.jsonl key=codec,quality columns=codec,psnr_db:.2f,bpp:.4f where=benchmark:video -->
    <!-- end table -->

``video.jsonl`` lies in ``benchmarks/results``. Later rows replace earlier ones that agree in the ``key`` columns;
``where`` keeps rows with that value. A column may carry a number format and, after ``=``, another heading
(``bpp:.4f=rate``). Run ``python -m codeckit.benchmarks.tables README.md docs/*.md`` to rewrite, with ``--check`` to
fail on what is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..formats.errors import InvalidParameter

__all__ = ["fill_tables", "main"]

RESULTS = Path(__file__).resolve().parent / "results"
_TABLE = re.compile(r"(<!-- table (?P<file>\S+) (?P<options>[^>]*?) -->\n)(?P<body>.*?)(<!-- end table -->)", re.DOTALL)


def fill_tables(text: str, results: Path = RESULTS) -> str:
    """``text`` with every marked table made anew; raises :class:`InvalidParameter` for a table without rows."""

    def made(match: re.Match[str]) -> str:
        options = dict(word.split("=", 1) for word in match["options"].split())
        unknown = options.keys() - {"key", "columns", "where"}
        if unknown or "columns" not in options or "key" not in options:
            raise InvalidParameter(f"table {match['file']}: give key= and columns=, and of others only where=")
        rows = _rows(results / match["file"], options["key"].split(","), options.get("where"))
        return match[1] + _markdown(rows, options["columns"].split(",")) + match[5]

    return _TABLE.sub(made, text)


def main(arguments: Sequence[str]) -> int:
    """Rewrite the named files; with ``--check`` only say which are out of date."""
    parser = argparse.ArgumentParser(prog="python -m codeckit.benchmarks.tables")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    stale = 0
    for path in options.files:
        before = path.read_text(encoding="utf-8")
        after = fill_tables(before)
        if after == before:
            continue
        stale += 1
        if options.check:
            print(f"{path} does not show the latest rows; run python -m codeckit.benchmarks.tables {path}")
        else:
            path.write_text(after, encoding="utf-8")
    return 1 if options.check and stale else 0


def _rows(path: Path, key: list[str], where: str | None) -> list[Mapping[str, Any]]:
    if not path.exists():
        raise InvalidParameter(f"no rows at {path}; run the benchmark with -o {path.name}")
    latest: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if where is not None:
            name, _, value = where.partition(":")
            if str(row.get(name)) != value:
                continue
        latest[tuple(str(row.get(name)) for name in key)] = row
    if not latest:
        raise InvalidParameter(f"{path} has no row with {where}")
    return list(latest.values())


def _markdown(rows: list[Mapping[str, Any]], columns: list[str]) -> str:
    headings, formats, names = [], [], []
    for column in columns:
        field, _, heading = column.partition("=")
        name, _, number_format = field.partition(":")
        names.append(name)
        formats.append(number_format)
        headings.append((heading or name).replace("_", " "))
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(columns)}"]
    for row in rows:
        cells = [_cell(row.get(name), number_format) for name, number_format in zip(names, formats, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any, number_format: str) -> str:
    if value is None:
        return ""
    if number_format and isinstance(value, (int, float)) and not isinstance(value, bool):
        return format(value, number_format)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
