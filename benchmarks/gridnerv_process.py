"""The processes in which ``codec bench gridnerv`` encodes and decodes: one each, so that memory is that of one thing.

A job comes in as JSON on standard input, what was measured goes out as JSON on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import codeckit

from ..formats.errors import ExternalFailure
from .peak_memory import peak_memory_bytes

__all__ = ["in_process"]

_PROBES = (1, 2, 7)  # epochs; what one costs follows from the difference of the last two

Job = Mapping[str, Any]


def in_process(what: str, job: Job) -> dict[str, Any]:
    """Run ``encode`` or ``decode`` of a job in a fresh process; raises :class:`ExternalFailure` with what it said."""
    command = [sys.executable, "-m", "codeckit.benchmarks.gridnerv_process", what]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExternalFailure(f"{what} of {job['file']} failed:\n{done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def encode(job: Job) -> dict[str, Any]:
    """Fit ``clip`` into ``file``; ``cpu_seconds`` replaces ``epochs`` by as many as take so long."""
    settings = dict(job["settings"])
    if job["cpu_seconds"] is not None:
        probes = [_timed(partial(_fit, job, {**settings, "epochs": str(epochs)})) for epochs in _PROBES]
        _, few, more = (cpu for _, cpu, _ in probes)
        each = max((more - few) / (_PROBES[2] - _PROBES[1]), 1e-3)
        settings["epochs"] = str(max(1, round((job["cpu_seconds"] - few) / each) + _PROBES[1]))
    wall, cpu, figures = _timed(lambda: _fit(job, settings))
    names = ("psnr_db", "network_bytes", "latents_bytes", "estimated_bytes")
    return {
        "encode_seconds": wall,
        "encode_cpu_seconds": cpu,
        "encode_peak_bytes": peak_memory_bytes(),
        "epochs": settings.get("epochs"),
        **{name: figures[name] for name in names},
    }


def decode(job: Job) -> dict[str, Any]:
    """Decode ``file`` into a lossless clip, for the memory, and then into an array, for the speed without a start."""
    context = codeckit.RunContext(threads=job["threads"], device=job["device"])
    codeckit.decode(job["file"], Path(job["file"]).with_suffix(".mkv"), context=context, overwrite=True)
    peak = peak_memory_bytes()
    wall, cpu, _ = _timed(lambda: codeckit.decode(job["file"], context=context))
    rough = codeckit.Selection(settings={"precision": "bfloat16"})
    rough_wall, _, _ = _timed(lambda: codeckit.decode(job["file"], selection=rough, context=context))
    return {
        "decode_seconds": wall,
        "decode_cpu_seconds": cpu,
        "decode_bfloat16_seconds": rough_wall,
        "decode_peak_bytes": peak,
    }


def _fit(job: Job, settings: Mapping[str, str]) -> Mapping[str, Any]:
    context = codeckit.RunContext(threads=job["threads"], device=job["device"])
    options = {"codec": "gridnerv", "preset": job["preset"], "settings": settings, "context": context}
    report: codeckit.EncodeReport = codeckit.encode(job["clip"], job["file"], overwrite=True, **options)
    return report.figures


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


if __name__ == "__main__":
    print(json.dumps({"encode": encode, "decode": decode}[sys.argv[1]](json.load(sys.stdin))))
