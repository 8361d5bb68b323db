"""``codec bench gridnerv``: what the codec's page claims beside the rate-distortion curves of ``codec bench video``.

A fit of a given processor time, decoding large pictures, memory of clips of two lengths, two rates from one fit, every
preset, and a target size. Every encoding and decoding runs in a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import codeckit

from ..formats.errors import InvalidParameter
from .gridnerv_process import in_process
from .provenance import provenance

__all__ = ["bench"]

Row = dict[str, Any]

CLIPS = "../shared/data/video"


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


_SMALL = {"size": "176x144", "frames": "0:16", "audio": "drop"}
_TINY = {"size": "88x72", "frames": "0:8", "audio": "drop"}
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
        settings={"size": "1280x640", "frames": "0:16", "audio": "drop", "lmbda": 0.5, "epochs": 8},
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
    _Case(figure="presets", name="quick", clip="carphone_pristine.mp4", settings=_TINY, preset="quick"),
    _Case(figure="presets", name="standard", clip="carphone_pristine.mp4", settings=_TINY),
    _Case(figure="presets", name="thorough", clip="carphone_pristine.mp4", settings=_TINY, preset="thorough"),
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
    for case in cases:
        file = folder / f"{case.figure} {case.name}.ck"
        given = {name: str(value) for name, value in case.settings.items()}
        if case.start_from is not None:
            given["start_from"] = str(folder / f"{case.figure} {case.start_from}.ck")
        job = {
            "clip": str(clips / case.clip),
            "file": str(file),
            "preset": case.preset,
            "settings": given,
            "cpu_seconds": case.cpu_seconds,
            "device": context.torch_device(),
            "threads": context.threads or 2,
        }
        source = provenance()
        measured = in_process("encode", job) | in_process("decode", job)
        yield {**source, "threads": job["threads"], **_row(case, file, measured)}


def _row(case: _Case, file: Path, measured: Mapping[str, Any]) -> Row:
    description, file_bytes = codeckit.info(file).description, file.stat().st_size
    width, height = (int(side) for side in str(description["picture"]).split("x"))
    frames = int(str(description["frames"]))
    coded = measured["network_bytes"] + measured["latents_bytes"]
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
        "psnr_db": measured["psnr_db"],
        "estimate_error_percent": 100 * (measured["estimated_bytes"] / coded - 1),
        "epochs": measured["epochs"],
        "encode_seconds": round(measured["encode_seconds"], 1),
        "encode_cpu_seconds": round(measured["encode_cpu_seconds"], 1),
        "encode_peak_mb": _megabytes(measured["encode_peak_bytes"]),
        "decode_peak_mb": _megabytes(measured["decode_peak_bytes"]),
        "decode_fps": round(frames / measured["decode_seconds"], 2),
        "decode_fps_bfloat16": round(frames / measured["decode_bfloat16_seconds"], 2),
        "decode_fps_per_cpu": round(frames / measured["decode_cpu_seconds"], 2),
    }


def _megabytes(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else round(size_bytes / 1e6, 1)
