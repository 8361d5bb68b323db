"""The plane of storage and ranking quality with its Pareto front, as a page without scripts and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..formats.atomic_file import AtomicFile
from .peers import load_optional
from .vectors_grid import pareto_front

__all__ = ["write_page", "write_picture"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _MARGIN = 860, 480, 64, 48, 16
_APART = 1.2, 0.02  # doublings of the size, recall
_COLUMNS = (
    ("settings", "settings", ""),
    ("bytes_per_vector", "bytes a vector", ".1f"),
    ("times_smaller", "times smaller", ".2f"),
    ("recall_10", "recall@10", ".4f"),
    ("recall_10_low", "low", ".4f"),
    ("recall_10_high", "high", ".4f"),
    ("ndcg_10", "nDCG@10", ".4f"),
    ("label_ndcg_10_loss_percent", "loss of judged nDCG@10, %", ".2f"),
    ("entropy_gain_percent", "entropy coding saves, %", ".1f"),
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 2px 10px; text-align: right; border-bottom: 1px solid #ddd; } td:first-child { text-align: left; }
.front td { font-weight: 600; } svg { width: 100%; height: auto; }
text { font: 12px system-ui, sans-serif; fill: #444; }
"""


def write_page(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One self-contained HTML file: the plane, whose points say what they are, and the table."""
    first = rows[0]
    title = f"{first['data']}: {first['vectors']:,} vectors of {first['dimensions']} dimensions"
    front = pareto_front(rows)
    body = "\n".join(_table_row(row, number in front) for number, row in _by_size(rows))
    heads = "".join(f"<th>{escape(heading)}</th>" for _, heading, _ in _COLUMNS)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>recall@10 by {escape(str(first['metric']))} against exact float32 search, "
        f"{first['queries']:,} queries, 95 % bootstrap intervals over queries; bytes of whole files. The line and "
        f"bold rows are the Pareto front.</p>{_drawing(rows, front)}<table><tr>{heads}</tr>{body}</table></html>\n"
    )
    with AtomicFile(path, overwrite=True) as output:
        output.write(page.encode())
        output.commit()


def write_picture(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The plane as PNG; raises :class:`ExternalFailure` without matplotlib."""
    figure_module: Any = load_optional("matplotlib.figure", "matplotlib")
    figure = figure_module.Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for family, members in _families(rows).items():
        below = [row["recall_10"] - (row["recall_10_low"] or row["recall_10"]) for row in members]
        above = [(row["recall_10_high"] or row["recall_10"]) - row["recall_10"] for row in members]
        axes.errorbar(
            [row["bytes_per_vector"] for row in members],
            [row["recall_10"] for row in members],
            yerr=[[max(0.0, edge) for edge in below], [max(0.0, edge) for edge in above]],
            fmt="o",
            capsize=2,
            label=family,
        )
    front = [rows[number] for number in pareto_front(rows)]
    axes.plot([row["bytes_per_vector"] for row in front], [row["recall_10"] for row in front], color="grey", zorder=0)
    named: list[tuple[float, float]] = []
    for row in reversed(front):
        place = math.log2(row["bytes_per_vector"]), row["recall_10"]
        if any(abs(place[0] - x) < _APART[0] and abs(place[1] - y) < _APART[1] for x, y in named):
            continue  # the names would lie on one another; the rows have them all
        named.append(place)
        axes.annotate(row["settings"], (row["bytes_per_vector"], row["recall_10"]), fontsize=6, xytext=(3, -8),
                      textcoords="offset points")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bytes a vector, of the whole file")
    axes.set_ylabel("recall@10 against exact float32 search")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with AtomicFile(path, overwrite=True) as output:
        figure.savefig(output.stream, format="png", dpi=130)
        output.commit()


def _by_size(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    return sorted(enumerate(rows), key=lambda item: -float(item[1]["bytes_per_vector"]))


def _families(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(_family(row), []).append(row)
    return found


def _family(row: Mapping[str, Any]) -> str:
    settings = dict(word.split("=", 1) for word in str(row["settings"]).split())
    if "random_projection" in settings:
        return "random projection"
    return f"pca={settings['pca']}" if "pca" in settings else "all dimensions"


def _table_row(row: Mapping[str, Any], on_front: bool) -> str:
    cells = []
    for name, _, number_format in _COLUMNS:
        value = row.get(name)
        shown = "" if value is None else format(value, number_format)
        cells.append(f"<td>{escape(shown)}</td>")
    kind = ' class="front"' if on_front else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _drawing(rows: Sequence[Mapping[str, Any]], front: Sequence[int]) -> str:
    sizes = [math.log2(row["bytes_per_vector"]) for row in rows]
    low, high = math.floor(min(sizes)), math.ceil(max(sizes) + 1e-9)
    bottom = math.floor(10 * min(row["recall_10"] for row in rows)) / 10
    bottom = min(bottom, 0.9)

    def place(row: Mapping[str, Any]) -> tuple[float, float]:
        x = _LEFT + (math.log2(row["bytes_per_vector"]) - low) / max(high - low, 1) * (_WIDTH - _LEFT - _MARGIN)
        y = _HEIGHT - _BOTTOM - (row["recall_10"] - bottom) / (1 - bottom) * (_HEIGHT - _BOTTOM - _MARGIN)
        return x, y

    parts = []
    for power in range(low, high + 1):
        x, _ = place({"bytes_per_vector": 2.0**power, "recall_10": 1.0})
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_MARGIN}" y2="{_HEIGHT - _BOTTOM}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 30}" text-anchor="middle">{2**power:,}</text>')
    for tenth in range(round(10 * bottom), 11):
        _, y = place({"bytes_per_vector": 2.0**low, "recall_10": tenth / 10})
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    line = " ".join("{:.1f},{:.1f}".format(*place(rows[number])) for number in front)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#888" stroke-width="1.5"/>')
    colours = dict(zip(_families(rows), ("#0b6e99", "#c2571a", "#3b7d3b", "#8a4f9e", "#777"), strict=False))
    for row in rows:
        x, y = place(row)
        what = f"{row['settings']}: {row['bytes_per_vector']:.1f} bytes, recall@10 {row['recall_10']:.4f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colours.get(_family(row), "#777")}">'
            f"<title>{escape(what)}</title></circle>"
        )
    for number, (family, colour) in enumerate(colours.items()):
        parts.append(f'<circle cx="{_LEFT + 16}" cy="{_MARGIN + 14 + 18 * number}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 28}" y="{_MARGIN + 18 + 18 * number}">{escape(family)}</text>')
    parts.append(
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">bytes a vector, of the whole file</text>'
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'
