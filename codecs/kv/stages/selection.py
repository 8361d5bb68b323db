"""The tokens of one head that remain: in place, dropped, or merged into others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = ["HeadSlots", "all_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSlots:
    """What a head keeps, in ascending order of position.

    ``positions`` int64 [slots] are token numbers within the layer; ``counts`` int64 [slots] say how many tokens a slot
    weighs in attention (``log(count)`` is added to its logit); ``parts`` float32 [slots, width], key and value;
    ``mass`` float32 [slots] is the attention mass of the slots where it is known.
    """

    positions: Integers
    counts: Integers
    parts: tuple[Floats, ...]
    mass: Floats | None


def all_tokens(parts: tuple[Floats, ...], mass: Floats | None) -> HeadSlots:
    """Every token, none of them merged."""
    tokens = len(parts[0])
    return HeadSlots(positions=np.arange(tokens), counts=np.ones(tokens, np.int64), parts=parts, mass=mass)
