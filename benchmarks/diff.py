"""Two results files compared point by point: what got dearer, worse or slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..formats.errors import CodecError, InvalidParameter
from .curves import Board, CurvePoint, make_boards
from .results import Results

__all__ = ["Difference", "Regression", "compare", "parse_percent", "regressions"]


class Regression(CodecError):
    """Something got worse by more than was allowed; the command exits with 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of one point before and after. ``worse_percent`` is positive when it got worse."""

    data_set: str
    curve: str
    settings: str
    figure: str
    before: float
    after: float
    worse_percent: float


def compare(before: Results, after: Results) -> list[Difference]:
    """Rate and every score of each point that both have, over the items of each; seconds are left to people.

    Raises :class:`InvalidParameter` when the two have no point in common or points over different items.
    """
    old = {
        (board.data_set, point.curve, point.settings): (board, point)
        for board in make_boards(before)
        for point in board.points
    }
    found: list[Difference] = []
    for board in make_boards(after):
        for point in board.points:
            key = (board.data_set, point.curve, point.settings)
            if key in old:
                found += _differences(*old[key], board, point)
    if not found:
        raise InvalidParameter("the two results have no point in common")
    return found


def regressions(differences: Sequence[Difference], percent: float) -> list[Difference]:
    """The differences that are worse by more than ``percent``."""
    return [difference for difference in differences if difference.worse_percent > percent]


def parse_percent(text: str) -> float:
    """``1%`` or ``1`` as 1.0; raises :class:`InvalidParameter`."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError as error:
        raise InvalidParameter(f"{text!r} is not a percentage such as 1%") from error
    if not 0 <= value < float("inf"):
        raise InvalidParameter(f"{text!r} is not a percentage of at least 0")
    return value


def _differences(old_board: Board, old: CurvePoint, board: Board, new: CurvePoint) -> list[Difference]:
    if set(old_board.items) != set(board.items):
        raise InvalidParameter(
            f"{board.data_set} has {len(old_board.items)} items before and {len(board.items)} after, not all the same; "
            "compare results of the same items"
        )
    figures = [("rate", old.rate, new.rate, False)]
    for name, one in new.scores.items():
        if name in old.scores:
            figures.append((name, old.scores[name].value, one.value, board.scorers[name].higher_is_better))
    return [
        Difference(
            data_set=board.data_set,
            curve=new.curve,
            settings=new.settings,
            figure=name,
            before=before,
            after=after,
            worse_percent=_worse_percent(before, after, higher),
        )
        for name, before, after, higher in figures
    ]


def _worse_percent(before: float, after: float, higher_is_better: bool) -> float:
    change = before - after if higher_is_better else after - before
    if change == 0:
        return 0.0
    return 100 * change / abs(before) if before else float("inf") if change > 0 else float("-inf")
