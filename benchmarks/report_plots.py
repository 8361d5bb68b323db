"""Curves as PNG pictures, one for each data set and scorer, for papers and for places without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .curves import Board
from .peers import ORIGINAL, load_optional
from .rates import RATE_UNITS

__all__ = ["save_plots"]


def save_plots(boards: Sequence[Board], page: Path) -> list[Path]:
    """Write ``PAGE-DATA-SCORER.png`` beside the page; raises :class:`ExternalFailure` without matplotlib."""
    figure_module: Any = load_optional("matplotlib.figure", "matplotlib")
    written = []
    for board in boards:
        for scorer in board.scorers:
            figure = figure_module.Figure(figsize=(7, 4.5), layout="constrained")
            _draw(figure.subplots(), board, scorer)
            target = page.with_name(f"{page.stem}-{_file_name(board.data_set)}-{_file_name(scorer)}.png")
            figure.savefig(target, dpi=120)
            written.append(target)
    return written


def _draw(axes: Any, board: Board, scorer: str) -> None:
    info = board.scorers[scorer]
    for name, members in board.curves().items():
        points = [board.points[number] for number in members if scorer in board.points[number].scores]
        if not points:
            continue
        found = [point.scores[scorer] for point in points]
        if points[0].codec == ORIGINAL:
            axes.axhline(found[0].value, color="grey", linestyle=":", label=name)
            continue
        below = [max(0.0, one.value - one.low) for one in found]
        above = [max(0.0, one.high - one.value) for one in found]
        rates = [point.rate for point in points]
        axes.errorbar(rates, [one.value for one in found], yerr=[below, above], marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_xlabel(f"rate, {RATE_UNITS[board.kind]}")
    axes.set_ylabel(f"{info.title}{f', {info.unit}' if info.unit else ''}")
    axes.set_title(f"{board.data_set}, {len(board.items)} items")
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend()


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in name)
