"""Curves of rate against quality from the points of ``codec bench video``: BD-rates, and a plot."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .bd_rate import bd_rate
from .tables import RESULTS
from .video_presets import ANCHORS

__all__ = ["bd_rows", "main"]

Row = dict[str, Any]
_METRICS = ("psnr_db", "ms_ssim")
_GROUP = ("clip", "size", "frames", "fits")
_COPIED = ("benchmark", "commit", "device", "curve")


def bd_rows(points: Iterable[Row]) -> list[Row]:
    """For every curve of a clip its BD-rate against each anchor in percent, by PSNR and by MS-SSIM.

    Block codecs are not fitted: they belong to fits of equal steps and of equal time alike.
    """
    rows = []
    for group, curves in _by_clip(points).items():
        for line in curves.values():
            row = {**{name: line[0][name] for name in _COPIED}, "row": "bd", **dict(zip(_GROUP, group, strict=True))}
            for anchor, name in ANCHORS.items():
                if name in curves and name != line[0]["curve"]:
                    for metric in _METRICS:
                        row |= _bd_rate(curves[name], line, metric, f"{metric}_against_{anchor}")
            if row.keys() > {*_COPIED, *_GROUP, "row"}:
                rows.append(row)
    return rows


def _bd_rate(anchor: Sequence[Row], line: Sequence[Row], metric: str, name: str) -> Row:
    """The BD-rate as field ``name``, and what to be careful with in fields beside it."""
    scores = [[row[metric] for row in points] for points in (anchor, line)]
    if None in scores[0] + scores[1]:
        return {name: None, f"{name}_notes": f"not every point has {metric}"}
    rates = [[row["bpp"] for row in points] for points in (anchor, line)]
    found = bd_rate(rates[0], scores[0], rates[1], scores[1])
    return {
        name: None if math.isnan(found.value) else round(found.value, 2),
        f"{name}_overlap": round(found.overlap, 3),
        f"{name}_notes": "; ".join([found.reason] if found.reason else found.warnings),
    }


def _by_clip(points: Iterable[Row]) -> dict[tuple[Any, ...], dict[str, list[Row]]]:
    """Points by what was coded and the kind of fits, then by curve, with rising rate."""
    points = sorted(points, key=lambda row: float(row["bpp"]))
    found: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for fitted in points:
        if fitted["epochs"] is None or _group(fitted) in found:
            continue
        curves: dict[str, list[Row]] = {}
        for row in points:
            if _group({**row, "fits": fitted["fits"] if row["epochs"] is None else row["fits"]}) == _group(fitted):
                curves.setdefault(row["curve"], []).append(row)
        found[_group(fitted)] = curves
    return found


def _group(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _GROUP)


def main(output: Path, rows: Path = RESULTS / "video.jsonl") -> None:
    """Draw the points of the fits of equal steps, one panel a clip."""
    from matplotlib.figure import Figure

    lines = (json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines())
    latest = {(_group(row), row["curve"], row["point"]): row for row in lines if row.get("row") == "point"}
    groups = _by_clip(latest.values()).items()
    panels = {group: curves for group, curves in groups if "equal steps" in group and len(curves) > 1}
    # one colour a codec in every panel: the legend stands in the first alone
    names = dict.fromkeys(name for curves in panels.values() for name in curves)
    colours = {name: f"C{number}" for number, name in enumerate(names)}
    figure = Figure(figsize=(5 * len(panels), 4.2), layout="constrained")
    for axes, ((clip, size, frames, _), curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, line in curves.items():
            style = "-" if line[0]["epochs"] is not None else ":"
            rates, qualities = [row["bpp"] for row in line], [row["psnr_db"] for row in line]
            axes.semilogx(rates, qualities, style, marker=".", color=colours[name], label=name)
        axes.set_title(f"{clip}, {size}, {frames} frames")
        axes.set_xlabel("bits per pixel, whole file")
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.axes[0].set_ylabel("PSNR, dB")
    figure.axes[0].legend(fontsize="x-small")
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
