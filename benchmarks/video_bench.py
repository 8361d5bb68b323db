"""``codec bench video``: fitted networks and block codecs on the same pictures, by the files they write.

Every cell is measured in processes of its own and kept, file and figures, in a folder; the same command again goes on
with the cells that are missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import codeckit

from ..formats.atomic_file import AtomicFile
from ..formats.errors import InvalidParameter
from .hnerv_huffman import HUFFMAN, write_huffman_file
from .peers import find_peer
from .provenance import provenance
from .video_cells import VideoCell, plan_cells
from .video_curves import bd_rows
from .video_presets import find_preset
from .video_process import measure

__all__ = ["bench"]

Row = dict[str, Any]

_SETTINGS = ("preset", "folder", "clips", "codecs", "cpu_seconds", "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    cells: tuple[VideoCell, ...]
    folder: Path
    minutes: float


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[Row]:
    """Points of all codecs on all clips of a preset, and the BD-rate of each curve.

    Settings: ``preset`` (cpu, gpu, length, smoke), ``folder`` where cells are kept, ``clips`` and ``codecs`` (names
    joined by commas, of codecs or of single curves; all by default), ``cpu_seconds`` (every fit as many epochs as take
    so long, instead of equal steps), ``minutes`` after which no new cell is begun. Rows are those of all cells that
    have been measured so far.
    """
    plan = _plan(settings, context)
    plan.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    rows: list[Row] = []
    for number, cell in enumerate(plan.cells):
        context.report(cell.name, number, len(plan.cells), unit="cells")
        kept = _kept(plan.folder, cell)
        if kept is None:
            if time.monotonic() - begun > 60 * plan.minutes:
                context.warning(f"{cell.name}: not measured, the time is up")
                continue
            kept = _measured(plan.folder, cell)
        rows += kept
    rows.sort(key=lambda row: (row["clip"], row["size"], row["frames"], row["curve"], row["bpp"]))
    return [*rows, *bd_rows(rows)]


def _plan(settings: Mapping[str, str], context: codeckit.RunContext) -> _Plan:
    unknown = settings.keys() - set(_SETTINGS)
    if unknown:
        raise InvalidParameter(f"unknown settings {sorted(unknown)}; known: {', '.join(_SETTINGS)}")
    cells = plan_cells(
        find_preset(settings.get("preset", "cpu")),
        clips=_names(settings, "clips"),
        codecs=_names(settings, "codecs"),
        device=context.torch_device(),
        threads=context.threads or 1,
        cpu_seconds=_number(settings, "cpu_seconds"),
    )
    return _Plan(
        cells=tuple(cells),
        folder=Path(settings.get("folder", "video-cells")),
        minutes=_number(settings, "minutes") or float("inf"),
    )


def _names(settings: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(settings[name].split(",")) if name in settings else frozenset()


def _number(settings: Mapping[str, str], name: str) -> float | None:
    if name not in settings:
        return None
    try:
        value = float(settings[name])
    except ValueError as error:
        raise InvalidParameter(f"{name}={settings[name]} is not a number") from error
    if not 0 < value < float("inf"):
        raise InvalidParameter(f"{name}={settings[name]} is not positive")
    return value


def _kept(folder: Path, cell: VideoCell) -> list[Row] | None:
    path = folder / f"{cell.key}.json"
    if not path.exists():
        return None
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _measured(folder: Path, cell: VideoCell) -> list[Row]:
    """The rows of a cell: its own, and for an ``hnerv`` file that of the same integers under Huffman's code."""
    head = {"benchmark": "video", "row": "point", **provenance()}
    target = folder / f"{cell.key}{find_peer(cell.curve.codec).suffix}"
    encoded = measure("encode", cell.job(target=str(target), cpu_seconds=cell.cpu_seconds))
    decoded = measure("decode", cell.job(target=str(target)))
    rows = [{**head, **_row(cell, target, encoded, decoded)}]
    if cell.curve.codec == "hnerv":
        huffman = target.with_suffix(".huffman.ck")
        write_huffman_file(target, huffman)
        # the integers are the same, so the pictures are; its own decoder was not timed
        same = {name: value for name, value in decoded.items() if not name.startswith("decode_")}
        label = HUFFMAN + cell.curve.label.removeprefix("hnerv")
        rows.append({**head, **_row(cell, huffman, encoded, same), "codec": HUFFMAN, "curve": label})
    with AtomicFile(folder / f"{cell.key}.json", overwrite=True) as file:
        file.write(json.dumps(rows, ensure_ascii=False, allow_nan=False).encode())
        file.commit()
    return rows


def _row(cell: VideoCell, target: Path, encoded: Mapping[str, Any], decoded: Mapping[str, Any]) -> Row:
    size = target.stat().st_size
    estimate = encoded["estimated_bytes"]
    return {
        "clip": cell.item.data_set,
        "size": cell.item.options["size"],
        "codec": cell.curve.codec,
        "curve": cell.curve.label,
        "fits": "equal CPU time" if cell.cpu_seconds else "equal steps",
        "preset": cell.curve.preset,
        "point": _joined(cell.point),
        "settings": _joined(cell.settings),
        "device": cell.device,
        "threads": cell.threads,
        "file_bytes": size,
        "bpp": 8 * size / decoded["pixels"],
        **encoded,
        **decoded,
        "file_over_estimate_percent": None if not estimate else 100 * (size / estimate - 1),
    }


def _joined(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items()))
