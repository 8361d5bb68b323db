"""The integers of the pieces of one part as bytes: everything but their symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ....formats.errors import CorruptFile
from ..integer_fields import append_integers, read_integers
from .gear import MAX_FACTOR, LowRank
from .groups import FINEST_STEP, MAX_STEP, MAX_ZERO, GroupCode
from .pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .pieces import PieceShape

    Integers = NDArray[np.int64]

__all__ = ["append_pieces", "read_pieces"]

_MAX_LEVEL = 1 << 28


def append_pieces(out: bytearray, pieces: Sequence[Piece]) -> None:
    """Append the fields of ``pieces``; each field of all of them shares one table."""
    for piece in pieces:
        if piece.offsets is not None:
            out += piece.offsets.astype("<u2").tobytes()
    append_integers(out, _joined([_differences(p.code.steps, p.shape) for p in pieces]))
    append_integers(out, _joined([p.code.zeros for p in pieces]))
    if not any(piece.low_rank is not None for piece in pieces):
        return
    append_integers(out, np.array([p.places.size for p in pieces]))
    append_integers(out, _joined([np.diff(p.places, prepend=-1) - 1 for p in pieces]))
    append_integers(out, _joined([p.levels for p in pieces]))
    for name in ("scales", "left", "right"):
        append_integers(out, _joined([getattr(p.low_rank, name) for p in pieces]))


def read_pieces(
    data: bytes,
    position: int,
    shapes: Sequence[PieceShape],
    symbols: Sequence[NDArray[np.uint8]],
    what: str,
) -> tuple[list[Piece], int]:
    """Invert :func:`append_pieces` for pieces of ``shapes`` with ``symbols`` [rows, length].

    Raises :class:`CorruptFile` naming ``what``.
    """
    offsets: list[NDArray[np.uint16] | None] = []
    for shape in shapes:
        if not shape.by_channel:
            offsets.append(None)
            continue
        if position + 2 * shape.rows > len(data):
            raise CorruptFile(f"{what}: the data end inside its offsets")
        found = np.frombuffer(data, "<u2", shape.rows, position).astype(np.uint16)
        # sign aside, a bfloat16 number below 2**60 has bits below those of 2**60
        if ((found & np.uint16(0x7FFF)) >= (127 + 60) << 7).any():
            raise CorruptFile(f"{what}: an offset is out of range")
        offsets.append(found)
        position += 2 * shape.rows
    sizes = [shape.rows * shape.groups for shape in shapes]
    steps, position = _read(data, position, sizes, (-(1 << 16), 1 << 16), what)
    zeros, position = _read(data, position, sizes, (-MAX_ZERO, MAX_ZERO), what)
    count = len(shapes)
    places = levels = [np.zeros(0, np.int64)] * count
    low_rank: list[LowRank | None] = [None] * count
    if shapes and shapes[0].rank:
        places, levels, position = _read_outliers(data, position, shapes, what)
        low_rank, position = _read_factors(data, position, shapes, what)
    pieces = []
    for number, shape in enumerate(shapes):
        own = _summed(steps[number].reshape(shape.rows, shape.groups), shape)
        if int(own.min()) < FINEST_STEP or int(own.max()) > MAX_STEP:
            raise CorruptFile(f"{what}: a step is out of range")
        code = GroupCode(symbols=symbols[number], steps=own, zeros=zeros[number].reshape(own.shape))
        pieces.append(
            Piece(
                shape=shape,
                code=code,
                offsets=offsets[number],
                places=places[number],
                levels=levels[number],
                low_rank=low_rank[number],
            )
        )
    return pieces, position


def _read_outliers(
    data: bytes, position: int, shapes: Sequence[PieceShape], what: str
) -> tuple[list[Integers], list[Integers], int]:
    counts, position = read_integers(data, position, len(shapes), what)
    for shape, count in zip(shapes, counts.tolist(), strict=True):
        if not 0 <= count <= shape.rows * shape.length:
            raise CorruptFile(f"{what}: {count} outliers among {shape.rows * shape.length} values")
    sizes = counts.tolist()
    largest = max(shape.rows * shape.length for shape in shapes)
    gaps, position = _read(data, position, sizes, (0, largest), what)
    levels, position = _read(data, position, sizes, (-_MAX_LEVEL, _MAX_LEVEL), what)
    places = [np.cumsum(own + 1) - 1 for own in gaps]
    for shape, own in zip(shapes, places, strict=True):
        if own.size and int(own[-1]) >= shape.rows * shape.length:
            raise CorruptFile(f"{what}: an outlier lies outside its piece")
    return places, levels, position


def _read_factors(
    data: bytes, position: int, shapes: Sequence[PieceShape], what: str
) -> tuple[list[LowRank | None], int]:
    ranks = [shape.factors for shape in shapes]
    finest = FINEST_STEP // 2
    scales, position = _read(data, position, [2 * rank for rank in ranks], (finest, MAX_STEP // 2), what)
    lefts = [shape.rows * rank for shape, rank in zip(shapes, ranks, strict=True)]
    rights = [shape.length * rank for shape, rank in zip(shapes, ranks, strict=True)]
    left, position = _read(data, position, lefts, (-MAX_FACTOR, MAX_FACTOR), what)
    right, position = _read(data, position, rights, (-MAX_FACTOR, MAX_FACTOR), what)
    found: list[LowRank | None] = [
        LowRank(left=a.reshape(-1, rank), right=b.reshape(-1, rank), scales=c.reshape(2, rank))
        for a, b, c, rank in zip(left, right, scales, ranks, strict=True)
    ]
    return found, position


def _read(
    data: bytes, position: int, sizes: Sequence[int], bounds: tuple[int, int], what: str
) -> tuple[list[Integers], int]:
    """One field of all pieces, each value within ``bounds``."""
    values, position = read_integers(data, position, sum(sizes), what)
    if values.size and not (bounds[0] <= int(values.min()) and int(values.max()) <= bounds[1]):
        raise CorruptFile(f"{what}: a number is not in {bounds[0]}..{bounds[1]}")
    return np.split(values, np.cumsum(sizes)[:-1]) if sizes else [], position


def _differences(steps: Integers, shape: PieceShape) -> Integers:
    """Steps as differences to the group before: along tokens, which is where they resemble one another."""
    return np.diff(steps, axis=1 if shape.by_channel else 0, prepend=0)


def _summed(differences: Integers, shape: PieceShape) -> Integers:
    return np.cumsum(differences, axis=1 if shape.by_channel else 0)


def _joined(arrays: Sequence[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, np.int64), *(array.ravel() for array in arrays)])
