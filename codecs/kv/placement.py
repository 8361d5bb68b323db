"""From transformed-back coefficients to the arrays of a cache: mean, rotary embedding, storage type, layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter
from .part_loops import add_mean, store_bfloat16, store_float16, turn
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

    @classmethod
    def from_positions(cls, rotary: Rotary, positions: NDArray[np.int64]) -> Turns:
        """Those that turn keys at ``positions`` back."""
        cosines, sines = rotation_tables(rotary, positions)
        return cls(cosines=cosines, sines=-sines, style=rotary.style)

    def rows(self, start: int, stop: int) -> Turns:
        """Those of a range of tokens."""
        return Turns(cosines=self.cosines[start:stop], sines=self.sines[start:stop], style=self.style)

    def apply(self, values: NDArray[np.float32]) -> None:
        """Turn ``values`` [heads, tokens, width] in place."""
        half = self.style == "half"
        turn(values, self.cosines, self.sines, 1 if half else 2, self.cosines.shape[1] if half else 1)


def place(
    values: NDArray[np.float32],
    mean: NDArray[np.float32] | None,
    turns: Turns | None,
    dtype: str,
    target: NDArray[Any],
    first_token: int,
) -> None:
    """Write ``values``, plus ``mean`` and turned by ``turns`` where they are given, to ``target``.

    ``values`` [heads, tokens, width] are overwritten; ``mean`` is [heads, width]; ``target`` [heads, more tokens,
    width] is of the storage type ``dtype`` and filled from ``first_token`` on; both arrays are C-contiguous. Raises
    :class:`InvalidParameter` where float16 would overflow.
    """
    if mean is not None:
        add_mean(values, mean)
    if turns is not None:
        turns.apply(values)
    if dtype == "BF16":
        store_bfloat16(values.view(np.uint32), target, first_token)
    elif dtype == "F32":
        target[:, first_token : first_token + values.shape[1]] = values
    elif not store_float16(values, target.view(np.uint16), first_token):
        raise InvalidParameter("decoded values exceed float16; decode to bf16 or fp32")
