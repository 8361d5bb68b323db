"""Which tokens of a head are kept exactly, and which are quantised to how many bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .pieces import PieceShape
from .plan import EXACT_BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import PartTable
    from .plan import StagesParams

    Integers = NDArray[np.int64]

__all__ = ["HeadLayout", "head_layout", "piece_shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLayout:
    """Indices of a head's tokens, ascending: those kept exactly, and for each number of bits those coded with it."""

    tokens: int
    exact: Integers
    pieces: tuple[tuple[int, Integers], ...]


def head_layout(plan: StagesParams, tokens: int, important: Integers | None) -> HeadLayout:
    """The layout of a head of ``tokens`` tokens, of which some are ``important``.

    KIVI's window (section 3.2) and sinks are exact, important tokens exact or in more bits, the rest in ``bits``.
    """
    exact = np.zeros(tokens, np.bool_)
    exact[: plan.sinks] = True
    exact[max(tokens - plan.window, 0) :] = True
    if plan.quantiser == "none":
        exact[:] = True
    high = np.zeros(tokens, np.bool_)
    if important is not None:
        high[important] = True
        if plan.important_bits == EXACT_BITS:
            exact |= high
    high &= ~exact
    pieces = [(plan.bits, np.flatnonzero(~exact & ~high)), (plan.important_bits, np.flatnonzero(high))]
    return HeadLayout(
        tokens=tokens,
        exact=np.flatnonzero(exact),
        pieces=tuple((bits, chosen) for bits, chosen in pieces if chosen.size),
    )


def piece_shape(plan: StagesParams, part: PartTable, bits: int, tokens: int) -> PieceShape:
    """How ``tokens`` tokens of a head of ``part`` are coded.

    KIVI (section 3.2): keys have a few channels with large magnitudes, so their groups run along tokens within a
    channel; values have none, so their groups run along channels within a token.
    """
    return PieceShape(
        tokens=tokens,
        width=part.width,
        bits=bits,
        group=plan.group,
        by_channel=plan.quantiser == "kivi" and part.rotated,
        rank=plan.rank if plan.residual == "gear" else 0,
        outliers_permille=plan.outliers_permille,
    )
