"""One piece: the tokens of one head of one part that are quantised to the same number of bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .gear import LowRank, find_outliers, fit_low_rank, low_rank_values
from .groups import FRACTION, GroupCode, dequantise_groups, levels_of, quantise_groups, step_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = ["Piece", "PieceShape", "fit_piece", "piece_values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceShape:
    """How a piece is coded.

    ``by_channel``: rows are channels and groups run along tokens (KIVI's keys); else rows are tokens and groups run
    along channels. ``rank`` 0 means no residual stage.
    """

    tokens: int
    width: int
    bits: int
    group: int
    by_channel: bool
    rank: int
    outliers_permille: int

    @property
    def rows(self) -> int:
        return self.width if self.by_channel else self.tokens

    @property
    def length(self) -> int:
        return self.tokens if self.by_channel else self.width

    @property
    def factors(self) -> int:
        """The rank that the piece can have."""
        return min(self.rank, self.tokens, self.width)

    @property
    def groups(self) -> int:
        return -(-self.length // self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The integers of a piece.

    ``offsets`` are bfloat16 bits uint16 [rows], subtracted before quantising, only by channel. ``places`` int64 are the
    outliers' places in the flattened rows, ascending, ``levels`` their levels in sixteenths of their group's step.
    """

    shape: PieceShape
    code: GroupCode
    offsets: NDArray[np.uint16] | None
    places: Integers
    levels: Integers
    low_rank: LowRank | None


def fit_piece(values: Floats, shape: PieceShape) -> Piece:
    """Quantise ``values`` [tokens, width]."""
    rows = np.ascontiguousarray(values.T if shape.by_channel else values)
    offsets = None
    if shape.by_channel:
        bits = np.ascontiguousarray(rows.mean(axis=1)).view(np.uint32) >> np.uint32(16)
        offsets = bits.astype(np.uint16)
        rows = rows - _offset_values(offsets)
    nothing = np.zeros(0, np.int64)
    if not shape.rank:
        code = quantise_groups(rows, shape.bits, shape.group)
        return Piece(shape=shape, code=code, offsets=offsets, places=nothing, levels=nothing, low_rank=None)
    chosen, inner = find_outliers(rows, shape.outliers_permille / 1000)
    code = quantise_groups(inner, shape.bits, shape.group)
    places = np.flatnonzero(chosen)
    exact = levels_of(rows, code.steps, code.zeros, shape.group)
    residual = rows - dequantise_groups(code, shape.group)
    residual[chosen] = 0
    return Piece(
        shape=shape,
        code=code,
        offsets=offsets,
        places=places,
        levels=np.rint(exact.ravel()[places] * FRACTION).astype(np.int64),
        low_rank=fit_low_rank(residual, shape.factors),
    )


def piece_values(piece: Piece) -> Floats:
    """What the integers stand for: float32 [tokens, width]."""
    shape, code = piece.shape, piece.code
    rows = dequantise_groups(code, shape.group)
    if piece.low_rank is not None:
        rows += low_rank_values(piece.low_rank)
    if piece.places.size:
        row, column = np.divmod(piece.places, shape.length)
        own = row, column // shape.group
        levels = (code.zeros[own] + piece.levels) / FRACTION
        rows[row, column] = levels.astype(np.float32) * step_values(code.steps[own])
    if piece.offsets is not None:
        rows += _offset_values(piece.offsets)
    return rows.T if shape.by_channel else rows


def _offset_values(bits: NDArray[np.uint16]) -> Floats:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)[:, None]
