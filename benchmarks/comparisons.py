"""What curves say together: BD-rates against an anchor with intervals, and which metric foretells which task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .bd_rate import BDDelta, bd_metric, bd_rate
from .curves import Board
from .peers import ORIGINAL
from .statistics import Interval, bootstrap, correlation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BDRow", "CorrelationRow", "bd_table", "correlation_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BDRow:
    """A curve against the anchor, judged by one scorer. ``interval`` is that of the BD-rate, from resampled items."""

    data_set: str
    curve: str
    anchor: str
    scorer: str
    rate: BDDelta
    metric: BDDelta
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationRow:
    """Spearman's correlation of a metric's mean with a task's mean over all points of all codecs."""

    data_set: str
    metric: str
    task: str
    points: int
    correlation: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two curves over the same items: ``bits`` and ``values`` are [points, items], larger values are better."""

    anchor: Sequence[int]
    test: Sequence[int]
    bits: NDArray[np.float64]
    divisors: NDArray[np.float64]
    values: NDArray[np.float64]

    def curves(self, drawn: NDArray[np.intp]) -> tuple[list[float], list[float], list[float], list[float]]:
        """Rates and scores of the anchor, rates and scores of the test, over the drawn items."""
        bits, values = self.bits[:, drawn], self.values[:, drawn]
        rates, means = bits.sum(axis=1) / self.divisors[drawn].sum(), values.mean(axis=1)
        one, two = list(self.anchor), list(self.test)
        return list(rates[one]), list(means[one]), list(rates[two]), list(means[two])

    def rate(self, drawn: NDArray[np.intp]) -> float:
        return bd_rate(*self.curves(drawn)).value


def bd_table(board: Board, *, anchor: str | None = None, resamples: int = 500, seed: int = 0) -> list[BDRow]:
    """Every curve of at least two points against ``anchor`` (the first such curve), by every scorer."""
    curves = {name: members for name, members in board.curves().items() if len(members) > 1}
    if anchor is None:
        anchor = next(iter(curves), None)
    if anchor is None or anchor not in curves:
        return []
    import numpy as np

    rows = []
    for scorer, values in board.values.items():
        usable = _usable(values, [*curves.values()])
        if not usable.any():
            continue
        sign = 1.0 if board.scorers[scorer].higher_is_better else -1.0
        bits, divisors, signed = board.bits[:, usable], board.divisors[usable], sign * values[:, usable]
        for name, members in curves.items():
            if name == anchor:
                continue
            pair = _Pair(anchor=curves[anchor], test=members, bits=bits, divisors=divisors, values=signed)
            ends = pair.curves(np.arange(len(divisors)))
            interval = bootstrap(pair.rate, len(divisors), resamples=resamples, seed=seed)
            rows.append(
                BDRow(
                    data_set=board.data_set,
                    curve=name,
                    anchor=anchor,
                    scorer=scorer,
                    rate=bd_rate(*ends),
                    metric=bd_metric(*ends),
                    interval=interval,
                )
            )
    return rows


def correlation_table(board: Board, *, seed: int = 0) -> list[CorrelationRow]:
    """Every metric with every task; metrics of which less is better count with their sign turned."""
    coded = [number for number, point in enumerate(board.points) if point.codec != ORIGINAL]
    rows = []
    for task, answers in board.values.items():
        if not board.scorers[task].is_task:
            continue
        for metric, values in board.values.items():
            if board.scorers[metric].is_task:
                continue
            usable = _usable(values, [coded]) & _usable(answers, [coded])
            if not usable.any():
                continue
            sign = 1.0 if board.scorers[metric].higher_is_better else -1.0
            found = correlation(sign * values[coded][:, usable], answers[coded][:, usable], seed=seed)
            rows.append(
                CorrelationRow(data_set=board.data_set, metric=metric, task=task, points=len(coded), correlation=found)
            )
    return rows


def _usable(values: NDArray[np.float64], groups: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Which items are scored at every point of ``groups``, bool [items]."""
    import numpy as np

    numbers = [number for group in groups for number in group]
    usable: NDArray[np.bool_] = ~np.isnan(values[numbers]).any(axis=0)
    return usable
