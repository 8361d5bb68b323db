"""From rows to curves: per data set, every point's rate and scores over the same items, with intervals.

An item counts only where every point of its data set has it, so that all are compared on the same content.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .peers import ORIGINAL
from .rates import rate
from .results import ResultRow, Results, ScorerInfo
from .statistics import Interval, McNemar, bootstrap, mcnemar, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Board", "CurvePoint", "make_boards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One point: its rate over all items, the mean of every score with its interval, times, and the test against the
    uncompressed baseline for tasks of yes and no."""

    curve: str
    codec: str
    settings: str
    rate: float
    file_bytes: int
    scores: Mapping[str, Interval]
    against_original: Mapping[str, McNemar]
    encode_seconds: float
    decode_seconds: float
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A data set with its points. ``bits`` is float64 [points, items], ``divisors`` [items], and ``values`` holds for
    each scorer float64 [points, items], NaN for an item that cannot be scored at every point."""

    data_set: str
    kind: str
    items: Sequence[str]
    left_out: int
    points: Sequence[CurvePoint]
    scorers: Mapping[str, ScorerInfo]
    bits: NDArray[np.float64]
    divisors: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def curves(self) -> dict[str, list[int]]:
        """The numbers of the points of each curve by rising rate, in the order of the sweep."""
        found: dict[str, list[int]] = {}
        for number, point in enumerate(self.points):
            found.setdefault(point.curve, []).append(number)
        return {name: sorted(members, key=lambda number: self.points[number].rate) for name, members in found.items()}


def make_boards(results: Results, *, seed: int = 0) -> list[Board]:
    """A board for each data set that has at least one item coded at every point."""
    by_set: dict[str, list[ResultRow]] = {}
    for row in results.rows:
        by_set.setdefault(row.data_set, []).append(row)
    boards = [_board(name, rows, results.scorers, seed) for name, rows in by_set.items()]
    return [board for board in boards if board is not None]


def _board(name: str, rows: Sequence[ResultRow], scorers: Mapping[str, ScorerInfo], seed: int) -> Board | None:
    import numpy as np

    table: dict[tuple[str, str], dict[str, ResultRow]] = {}
    for row in rows:
        table.setdefault((row.curve, row.settings), {})[row.item] = row
    every = list(dict.fromkeys(row.item for row in rows))
    whole = [item for item in every if all(item in row and row[item].status == "ok" for row in table.values())]
    if not whole:
        return None
    grid = [[column[item] for item in whole] for column in table.values()]
    values = {}
    for scorer in scorers:
        scored = np.array([[row.scores.get(scorer, np.nan) for row in line] for line in grid], dtype=np.float64)
        compared = [number for number, line in enumerate(grid) if line[0].codec != ORIGINAL or scorers[scorer].is_task]
        if compared and not np.isnan(scored).all():
            scored[:, np.isnan(scored[compared]).any(axis=0)] = np.nan
            if not np.isnan(scored).all():
                values[scorer] = scored
    board = Board(
        data_set=name,
        kind=rows[0].kind,
        items=whole,
        left_out=len(every) - len(whole),
        points=[],
        scorers={scorer: scorers[scorer] for scorer in values},
        bits=np.array([[8 * (row.file_bytes or 0) for row in line] for line in grid], dtype=np.float64),
        divisors=np.array([row.divisor for row in grid[0]], dtype=np.float64),
        values=values,
    )
    baseline = next((number for number, line in enumerate(grid) if line[0].codec == ORIGINAL), None)
    points = [_point(line, number, baseline, board, seed) for number, line in enumerate(grid)]
    return dataclasses.replace(board, points=points)


def _point(line: Sequence[ResultRow], number: int, baseline: int | None, board: Board, seed: int) -> CurvePoint:
    import numpy as np

    scores, against = {}, {}
    for scorer, values in board.values.items():
        usable = ~np.isnan(values).all(axis=0)
        own = values[number, usable]
        if np.isnan(own).any():
            continue  # the original has no distortion
        yes_or_no = _is_yes_or_no(values)  # at every point: an agreement may be 1 for all items at one of them
        scores[scorer] = _interval(own, yes_or_no, seed)
        if baseline is not None and number != baseline and board.scorers[scorer].is_task and yes_or_no:
            reference = values[baseline, usable]
            against[scorer] = mcnemar(list(reference == 1), list(own == 1))
    peaks = [row.peak_memory_bytes for row in line if row.peak_memory_bytes is not None]
    return CurvePoint(
        curve=line[0].curve,
        codec=line[0].codec,
        settings=line[0].settings,
        rate=rate([row.file_bytes or 0 for row in line], list(board.divisors)),
        file_bytes=sum(row.file_bytes or 0 for row in line),
        scores=scores,
        against_original=against,
        encode_seconds=float(np.mean([row.encode_seconds or 0.0 for row in line])),
        decode_seconds=float(np.mean([row.decode_seconds or 0.0 for row in line])),
        peak_memory_bytes=max(peaks, default=None),
    )


def _interval(values: NDArray[np.float64], yes_or_no: bool, seed: int) -> Interval:
    if yes_or_no:
        return wilson(int(values.sum()), len(values))
    return bootstrap(lambda drawn: float(values[drawn].mean()), len(values), seed=seed)


def _is_yes_or_no(values: NDArray[np.float64]) -> bool:
    import numpy as np

    known = values[~np.isnan(values)]
    return bool(np.isin(known, (0.0, 1.0)).all())
