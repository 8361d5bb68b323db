"""``codec info``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from ..formats.limits import DEFAULT_LIMITS
from ..formats.spooling import spooled
from ..inspection import FileInfo, info
from .output import format_size, print_table
from .runs import Job, run_jobs

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Describe every file."""
    options.quiet = options.verbose = False
    jobs = [Job(input=name, output="") for name in options.inputs]
    return run_jobs(options, jobs, lambda job: _describe(job.input), _show)


def _describe(path: str) -> Mapping[str, Any]:
    if path == "-":
        with spooled(sys.stdin.buffer, limits=DEFAULT_LIMITS, name="standard input") as copy:
            found = info(copy)
    else:
        found = info(path)
    return {"command": "info", "input": path, **dataclasses.asdict(found)}


def _show(result: Mapping[str, Any]) -> None:
    found = FileInfo(**{field.name: result[field.name] for field in dataclasses.fields(FileInfo)})
    rows: list[tuple[str, Any]] = [
        ("file", result["input"]),
        ("codec", f"{found.codec}, bitstream version {found.bitstream_version}"),
        ("size", format_size(found.size_bytes or 0)),
        *found.description.items(),
        *found.rates.items(),
    ]
    if found.profile is not None:
        rows.append(("numeric profile", found.profile))
    rows += [("weights needed", digest) for digest in found.weights]
    rows += [
        (
            f"chunks {chunk['type']}",
            f"{chunk['count']:,} holding {format_size(chunk['payload_bytes'])}",
        )
        for chunk in result["chunks"]
    ]
    if found.problem is not None:
        rows.append(("problem", found.problem))
    print_table(rows)
