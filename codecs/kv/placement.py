# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""From transformed-back coefficients to the arrays of a cache: mean, rotary embedding, storage type, layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.native_compilation import compiled
from .number_formats import from_float32
from .rotary import rotation_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cache import Rotary

__all__ = ["Turns", "place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Cosines and sines [tokens, pairs] of a rotary embedding, and which channels pair."""

    cosines: NDArray[np.float32]
    sines: NDArray[np.float32]
    style: str

    @classmethod
    def to_positions(cls, rotary: Rotary, positions: NDArray[np.int64]) -> Turns:
        """Those that turn keys to ``positions``."""
        cosines, sines = rotation_tables(rotary, positions)
        return cls(cosines=cosines, sines=sines, style=rotary.style)

    def rows(self, start: int, stop: int) -> Turns:
        """Those of a range of tokens."""
        return Turns(cosines=self.cosines[start:stop], sines=self.sines[start:stop], style=self.style)


def place(
    values: NDArray[np.float32],
    mean: NDArray[np.float32],
    turns: Turns | None,
    dtype: str,
    target: NDArray[Any],
) -> None:
    """Write ``values + mean``, turned where ``turns`` are given, to ``target``.

    ``values`` [tokens, heads, width] are overwritten; ``mean`` is [heads, width]; ``target`` [heads, tokens, width] is
    of the storage type ``dtype``.
    """
    if turns is None:
        nothing = np.zeros((len(values), 0), np.float32)
        _finish(values, mean, nothing, nothing, 1, 0)
    else:
        cosines, sines = turns.cosines, turns.sines
        half = turns.style == "half"
        _finish(values, mean, cosines, sines, 1 if half else 2, cosines.shape[1] if half else 1)
    if dtype == "BF16":
        _store_bfloat16(values.view(np.uint32), target)
    else:
        target[...] = from_float32(values.swapaxes(0, 1), dtype).data


@compiled
def _finish(values, mean, cosines, sines, stride, partner):
    """Add the mean and turn channel ``stride * i`` with its partner, in place."""
    tokens, heads, width = values.shape
    pairs = cosines.shape[1]
    for token in range(tokens):
        for head in range(heads):
            for channel in range(width):
                values[token, head, channel] += mean[head, channel]
            for pair in range(pairs):
                first = stride * pair
                x, y = values[token, head, first], values[token, head, first + partner]
                cosine, sine = cosines[token, pair], sines[token, pair]
                values[token, head, first] = x * cosine - y * sine
                values[token, head, first + partner] = y * cosine + x * sine


@compiled
def _store_bfloat16(bits, target):
    """Round float32 ``bits`` [tokens, heads, width] to nearest, ties to even."""
    tokens, heads, width = bits.shape
    for token in range(tokens):
        for head in range(heads):
            for channel in range(width):
                value = bits[token, head, channel]
                odd = (value >> np.uint32(16)) & np.uint32(1)
                target[head, token, channel] = np.uint16((value + np.uint32(0x7FFF) + odd) >> np.uint32(16))
