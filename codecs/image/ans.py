"""The asymmetric numeral system of :mod:`codeckit.entropy`, for kernels that compute probabilities as they go.

Words and state are those of constriction's ``AnsCoder``: 32-bit words, a 64-bit state, 24-bit frequencies
(``docs/entropy.md``). A model here is no table but a start and a frequency per symbol, known only once the symbols
before it are; the functions are compiled into the kernels that need them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...entropy.native_compilation import compiled, inlined
from ...formats.errors import CorruptFile

__all__ = ["AnsStack", "encode_operations", "peek", "pop"]

_WORD_BITS = np.uint64(32)
_PRECISION = np.uint64(24)
_SLOT_MASK = np.uint64((1 << 24) - 1)
_LOW_WORD = np.uint64((1 << 32) - 1)
_REFILL = np.uint64(1 << 32)


class AnsStack:
    """What kernels read from: the words, and ``state`` (uint64 ``[2]``: the coder's state and the words left)."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise CorruptFile(f"lane of {len(data)} bytes: not a whole number of 32-bit words")
        self.words = np.frombuffer(data, "<u4").astype(np.uint32)
        count = len(self.words)
        value = 0
        for word in self.words[max(0, count - 2) :][::-1]:
            value = value << 32 | int(word)
        self.state = np.array([value, max(0, count - 2)], np.uint64)

    def take_uniform(self, low: int, high: int) -> int:
        """Decode one value that was equally likely to be any of ``low .. high``."""
        count = high - low + 1
        slot = int(self.state[0]) & ((1 << 24) - 1)
        offset = ((slot + 1) * count - 1) >> 24
        start = (offset << 24) // count
        _pop_one(self.words, self.state, start, ((offset + 1) << 24) // count - start)
        return low + offset

    def check_exhausted(self) -> None:
        """Raise :class:`CorruptFile` unless exactly what was encoded has been decoded."""
        if int(self.state[0]) or int(self.state[1]):
            raise CorruptFile("lane: the words do not end where the symbols do; the data is damaged")


def encode_operations(starts: NDArray[np.uint32], frequencies: NDArray[np.uint32]) -> bytes:
    """The words that decode to symbols with these starts and frequencies, in this order."""
    words = np.empty(len(starts) + 2, np.uint32)
    count = _encode(starts, frequencies, words)
    return words[:count].astype("<u4").tobytes()


@compiled
def _encode(starts, frequencies, words):  # type: ignore[no-untyped-def]
    state = np.uint64(0)
    count = 0
    for index in range(len(starts) - 1, -1, -1):
        frequency = np.uint64(frequencies[index])
        if state >> np.uint64(40) >= frequency:
            words[count] = np.uint32(state & _LOW_WORD)
            count += 1
            state >>= _WORD_BITS
        quotient = state // frequency
        state = (quotient << _PRECISION) + (state - quotient * frequency) + np.uint64(starts[index])
    while state > 0:
        words[count] = np.uint32(state & _LOW_WORD)
        count += 1
        state >>= _WORD_BITS
    return count


@inlined
def peek(state):  # type: ignore[no-untyped-def]
    """The slot, below ``2**24``, that the next symbol owns."""
    return np.int64(state[0] & _SLOT_MASK)


@inlined
def pop(words, state, start, frequency):  # type: ignore[no-untyped-def]
    """Take the symbol that owns ``start .. start + frequency - 1`` off the stack."""
    value = (state[0] >> _PRECISION) * np.uint64(frequency)
    value += (state[0] & _SLOT_MASK) - np.uint64(start)
    if value < _REFILL and state[1] > 0:
        state[1] -= np.uint64(1)
        value = (value << _WORD_BITS) | np.uint64(words[state[1]])
    state[0] = value


@compiled
def _pop_one(words, state, start, frequency):  # type: ignore[no-untyped-def]
    pop(words, state, start, frequency)
