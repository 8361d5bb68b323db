"""``codec bench gridnerv``: what the codec's page claims beside the rate-distortion curves of ``codec bench video``.

A fit of a given processor time, decoding large pictures, memory of clips of two lengths, two rates from one fit, every
preset, and a target size. Every encoding and decoding runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import codeckit

from ..formats.errors import ExternalFailure, InvalidParameter
from .provenance import provenance
from .video_process import affordable_epochs, measure_in_process

__all__ = ["bench"]

Row = dict[str, Any]

CLIPS = "../shared/data/video"
_DECODING = """
import json, sys, time, codeckit
from codeckit.benchmarks.peak_memory import peak_memory_bytes
job = json.load(sys.stdin)
context = codeckit.RunContext(threads=job["threads"], device=job["device"])
wall, cpu = time.perf_counter(), time.process_time()
codeckit.decode(job["file"], job["target"], context=context, overwrite=True)
if job["warm"]:  # the first decode also loads libraries
    wall, cpu = time.perf_counter(), time.process_time()
    codeckit.decode(job["file"], context=context)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "peak_bytes": peak_memory_bytes()}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One file: ``cpu_seconds`` chooses its epochs, ``start_from`` names an earlier case of the same figure."""

    figure: str
    name: str
    clip: str
    settings: Mapping[str, Any]
    preset: str = "standard"
    cpu_seconds: float | None = None
    start_from: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


_SMALL = {"size": "176x144", "frames": "0:16", "audio": "drop"}
_BIKES = {"size": "160x68", "audio": "drop", "longest_segment": 16, "epochs": 2}
_RATES = {"size": "160x80", "frames": "0:16", "audio": "drop"}

_CASES = (
    _Case(
        figure="budget",
        name="90 s on two cores",
        clip="bigbuckbunny.mp4",
        settings={"size": "320x160", "frames": "0:32", "audio": "drop", "lmbda": 2e-3},
        cpu_seconds=160.0,
    ),
    _Case(
        figure="decode",
        name="1280x640",
        clip="bigbuckbunny.mp4",
        settings={"size": "1280x640", "frames": "0:16", "audio": "drop", "lmbda": 0.15, "epochs": 6},
        extra={"warm": True},
    ),
    _Case(figure="memory", name="32 frames", clip="bikes.mp4", settings={**_BIKES, "frames": "0:32"}),
    _Case(figure="memory", name="192 frames", clip="bikes.mp4", settings={**_BIKES, "frames": "0:192"}),
    _Case(figure="rates", name="first, 60 epochs", clip="bikes.mp4", settings={**_RATES, "lmbda": 2e-3, "epochs": 60}),
    _Case(
        figure="rates",
        name="from the first, 15 epochs",
        clip="bikes.mp4",
        settings={**_RATES, "lmbda": 8e-3, "epochs": 15},
        start_from="first, 60 epochs",
    ),
    _Case(figure="rates", name="anew, 15 epochs", clip="bikes.mp4", settings={**_RATES, "lmbda": 8e-3, "epochs": 15}),
    _Case(figure="rates", name="anew, 60 epochs", clip="bikes.mp4", settings={**_RATES, "lmbda": 8e-3, "epochs": 60}),
    _Case(figure="presets", name="quick", clip="carphone_pristine.mp4", settings=_SMALL, preset="quick"),
    _Case(figure="presets", name="standard", clip="carphone_pristine.mp4", settings=_SMALL),
    _Case(figure="presets", name="thorough", clip="carphone_pristine.mp4", settings=_SMALL, preset="thorough"),
    _Case(
        figure="target",
        name="0.3 bits per pixel",
        clip="carphone_pristine.mp4",
        settings={**_SMALL, "target_bpp": 0.3, "epochs": 40},
    ),
    _Case(
        figure="target",
        name="20 kB",
        clip="carphone_pristine.mp4",
        settings={**_SMALL, "target_kb": 20, "epochs": 40},
    ),
)


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[Row]:
    """Rows of the figures named in ``figures=`` (joined by commas; all by default), with clips from ``clips=``."""
    known = list(dict.fromkeys(case.figure for case in _CASES))
    unknown = settings.keys() - {"figures", "clips"}
    wanted = settings.get("figures", ",".join(known)).split(",")
    if unknown or not set(wanted) <= set(known):
        raise InvalidParameter(f"settings: figures= (of {', '.join(known)}), clips= a folder; got {dict(settings)}")
    cases = [case for case in _CASES if case.figure in wanted]
    folder = Path(settings.get("clips", CLIPS))
    for case in cases:
        if not (folder / case.clip).exists():
            raise InvalidParameter(f"{folder / case.clip} does not exist; give the clips' folder with --set clips=DIR")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for number, row in enumerate(_measured(cases, folder, Path(name), context)):
            context.report(row["case"], number + 1, len(cases), unit="cases")
            rows.append(row)
    return rows


def _measured(cases: list[_Case], clips: Path, folder: Path, context: codeckit.RunContext) -> Iterator[Row]:
    device, threads = context.torch_device(), context.threads or 2
    for case in cases:
        target = folder / f"{case.figure} {case.name}.ck"
        given = {name: str(value) for name, value in case.settings.items()}
        if case.start_from is not None:
            given["start_from"] = str(folder / f"{case.figure} {case.start_from}.ck")
        job = {
            "path": str(clips / case.clip),
            "target": str(target),
            "codec": "gridnerv",
            "fitted": True,
            "preset": case.preset,
            "settings": given,
            "device": device,
            "threads": threads,
        }
        if case.cpu_seconds is not None:
            given["epochs"] = str(affordable_epochs(job, given, case.cpu_seconds))
        source = provenance()
        encoded = measure_in_process("encode", job)
        decoded = _decoded(target, device, threads, warm=bool(case.extra.get("warm")))
        yield {**source, **_row(case, target, encoded, decoded)}


def _row(case: _Case, target: Path, encoded: Mapping[str, Any], decoded: Mapping[str, Any]) -> Row:
    header = codeckit.info(target)
    description, file_bytes = header.description, target.stat().st_size
    width, height = (int(side) for side in str(description["picture"]).split("x"))
    frames = int(str(description["frames"]))
    payload = sum(chunk.payload_bytes for chunk in header.chunks if chunk.type in ("NETW", "LATS"))
    return {
        "benchmark": "gridnerv",
        "figure": case.figure,
        "case": case.name,
        "clip": case.clip,
        "preset": case.preset,
        "settings": " ".join(f"{name}={value}" for name, value in case.settings.items()),
        "picture": f"{width}x{height}",
        "frames": frames,
        "segments": description["segments"],
        "file_bytes": file_bytes,
        "bpp": 8 * file_bytes / (width * height * frames),
        "psnr_db": encoded["reported_psnr_db"],
        "estimate_error_percent": 100 * (encoded["estimated_bytes"] / payload - 1),
        "epochs": encoded["epochs"],
        "encode_seconds": encoded["encode_seconds"],
        "encode_cpu_seconds": encoded["encode_cpu_seconds"],
        "encode_peak_mb": round(encoded["encode_peak_bytes"] / 1e6, 1),
        "decode_peak_mb": round(decoded["peak_bytes"] / 1e6, 1),
        "decode_fps": round(frames / decoded["seconds"], 2),
        "decode_fps_per_cpu": round(frames / decoded["cpu_seconds"], 2),
    }


def _decoded(file: Path, device: str, threads: int, *, warm: bool) -> dict[str, Any]:
    job = {"file": str(file), "target": str(file.with_suffix(".mkv")), "device": device, "threads": threads}
    command = [sys.executable, "-c", _DECODING]
    done = subprocess.run(command, input=json.dumps({**job, "warm": warm}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExternalFailure(f"decoding {file.name} failed:\n{done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
