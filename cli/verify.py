"""``codec verify``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from ..inspection import verify
from .runs import Job, run_jobs

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Check every file."""
    options.quiet = options.verbose = False
    jobs = [Job(input=name, output="") for name in options.inputs]
    return run_jobs(options, jobs, lambda job: _verify(job.input), _show)


def _verify(path: str) -> Mapping[str, Any]:
    source: Any = sys.stdin.buffer if path == "-" else path
    return {"command": "verify", "input": path, "sound": True, "chunks": verify(source)}


def _show(result: Mapping[str, Any]) -> None:
    print(f"{result['input']}: sound, {result['chunks']} chunks")
