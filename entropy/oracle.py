"""Slow reference coders in plain Python integers.

They define the bitstreams by being short enough to read; every fast coder is tested against them.
Symbols are slot numbers and a table is its list of cumulative frequencies (one more entry than
slots, from 0 to ``2**24``), one per symbol.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from ..formats.errors import CorruptFile
from .frequency_table import PRECISION

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ans_decode", "ans_encode", "range_decode", "range_encode"]

_MASK = (1 << PRECISION) - 1
_WORD = 32
_WORD_MASK = (1 << _WORD) - 1


def ans_encode(slots: Sequence[int], cumulatives: Sequence[Sequence[int]]) -> list[int]:
    """The 32-bit words of an ANS stream from which ``slots`` decode in the given order."""
    words: list[int] = []
    state = 0
    for slot, cumulative in zip(reversed(slots), reversed(cumulatives), strict=True):
        start, frequency = cumulative[slot], cumulative[slot + 1] - cumulative[slot]
        if state >> (64 - PRECISION) >= frequency:
            words.append(state & _WORD_MASK)
            state >>= _WORD
        state = (state // frequency << PRECISION) + start + state % frequency
    while state:
        words.append(state & _WORD_MASK)
        state >>= _WORD
    return words


def ans_decode(words: Sequence[int], cumulatives: Sequence[Sequence[int]]) -> list[int]:
    """Decode one slot for each table.

    Raises:
        CorruptFile: the stream ends in a zero word, or is not used up exactly.
    """
    stack = list(words)
    if stack and stack[-1] == 0:
        raise CorruptFile("an ANS stream cannot end in a zero word")
    state = 0
    for _ in range(2):
        if stack:
            state = state << _WORD | stack.pop()
    slots = []
    for cumulative in cumulatives:
        quantile = state & _MASK
        slot = bisect_right(cumulative, quantile) - 1
        frequency = cumulative[slot + 1] - cumulative[slot]
        state = (state >> PRECISION) * frequency + quantile - cumulative[slot]
        if state <= _WORD_MASK and stack:
            state = state << _WORD | stack.pop()
        slots.append(slot)
    if state or stack:
        raise CorruptFile("an ANS stream has words left over")
    return slots


def range_encode(slots: Sequence[int], cumulatives: Sequence[Sequence[int]]) -> list[int]:
    """The 32-bit words of a range-coder stream; carries are left to unbounded integers."""
    lower, width, emitted = 0, (1 << 64) - 1, 0
    coded = False
    for slot, cumulative in zip(slots, cumulatives, strict=True):
        if len(cumulative) == 2:
            continue
        coded = True
        scale = width >> PRECISION
        lower += scale * cumulative[slot]
        width = scale * (cumulative[slot + 1] - cumulative[slot])
        if width <= _WORD_MASK:
            lower, width, emitted = lower << _WORD, width << _WORD, emitted + 1
    if not coded:
        return []
    point = (lower + _WORD_MASK) >> _WORD
    words = [point >> (_WORD * (emitted - i)) & _WORD_MASK for i in range(emitted + 1)]
    if (lower + width) >> _WORD == point:
        words.append(0)
    return words


def range_decode(words: Sequence[int], cumulatives: Sequence[Sequence[int]]) -> list[int]:
    """Decode one slot for each table.

    Raises:
        CorruptFile: no sequence of slots gives these words.
    """
    padded = iter([*words, *[0] * (len(cumulatives) + 2)])
    offset, width = next(padded) << _WORD | next(padded), (1 << 64) - 1
    slots = []
    for cumulative in cumulatives:
        if len(cumulative) == 2:
            slots.append(0)
            continue
        scale = width >> PRECISION
        quantile = offset // scale
        if quantile > _MASK:
            raise CorruptFile("the words fit no sequence of symbols")
        slot = bisect_right(cumulative, quantile) - 1
        offset -= scale * cumulative[slot]
        width = scale * (cumulative[slot + 1] - cumulative[slot])
        if width <= _WORD_MASK:
            offset, width = offset << _WORD | next(padded), width << _WORD
        slots.append(slot)
    return slots
