"""Integer frequency tables: the only form in which a probability may reach a coder.

A table holds one frequency per symbol. Frequencies are whole numbers, at least one, and sum to
``2**24`` exactly, so that encoder and decoder cannot disagree, whatever machine computed them.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_SYMBOLS", "PRECISION", "TOTAL", "FrequencyTable", "normalise_counts"]

PRECISION = 24
TOTAL = 1 << PRECISION
MAX_SYMBOLS = 1 << 16
MAX_MINIMUM = 1 << 62


class FrequencyTable:
    """An immutable table of integer frequencies over consecutive integer symbols.

    Slot ``i`` stands for the value ``minimum + i``. With ``escape`` the last slot stands for every
    value outside ``minimum .. maximum``; the value itself then travels in the escape section of
    the stream, so that nothing is ever clipped.

    Args:
        frequencies: integers [slots], each at least 1, with sum ``2**24``.
        minimum: the value of the first slot.
        escape: whether the last slot is the escape slot.

    Raises:
        InvalidParameter: the frequencies break one of these rules.
    """

    def __init__(self, frequencies: ArrayLike, *, minimum: int = 0, escape: bool = False) -> None:
        array = np.asarray(frequencies)
        problem = _problem(array, escape)
        if problem is None and not -MAX_MINIMUM <= int(minimum) <= MAX_MINIMUM:
            problem = f"its minimum {minimum} is beyond +-2**62"
        if problem is not None:
            raise InvalidParameter(f"not a frequency table: {problem}")
        self._frequencies: NDArray[np.uint32] = array.astype(np.uint32)
        self._frequencies.flags.writeable = False
        self._minimum = int(minimum)
        self._escape = bool(escape)

    @classmethod
    def from_frequencies(cls, frequencies: ArrayLike, *, minimum: int = 0, escape: bool = False) -> FrequencyTable:
        """The table with exactly these frequencies; same as the constructor."""
        return cls(frequencies, minimum=minimum, escape=escape)

    @classmethod
    def from_counts(
        cls, counts: ArrayLike, *, minimum: int = 0, escape: bool = False, bits: int = PRECISION
    ) -> FrequencyTable:
        """The table closest to observed ``counts`` (integers >= 0, [slots]).

        ``bits=12`` gives a table whose frequencies are multiples of ``2**12``, which decoders serve
        from a 4,096-entry look-up table; it resolves probabilities down to 1/4096 only.
        """
        frequencies = normalise_counts(counts, bits=bits).astype(np.int64) << (PRECISION - bits)
        return cls(frequencies, minimum=minimum, escape=escape)

    @property
    def frequencies(self) -> NDArray[np.uint32]:
        """Read-only uint32 [slots], the escape slot last if there is one."""
        return self._frequencies

    @property
    def minimum(self) -> int:
        """The value of the first slot."""
        return self._minimum

    @property
    def maximum(self) -> int:
        """The largest value with a slot of its own; ``minimum - 1`` when every value escapes."""
        return self._minimum + self.slots - self._escape - 1

    @property
    def escape(self) -> bool:
        """Whether the last slot stands for the values outside the range."""
        return self._escape

    @property
    def slots(self) -> int:
        """The number of slots, the escape slot included."""
        return int(self._frequencies.size)

    @cached_property
    def cumulative(self) -> NDArray[np.uint32]:
        """Read-only uint32 [slots + 1]: slot ``i`` owns ``cumulative[i] .. cumulative[i + 1] - 1``."""
        cumulative = np.zeros(self.slots + 1, np.uint32)
        np.cumsum(self._frequencies, out=cumulative[1:])
        cumulative.flags.writeable = False
        return cumulative

    @cached_property
    def alignment(self) -> int:
        """The largest ``a`` such that every frequency is a multiple of ``2**a`` (at most 24)."""
        union = int(np.bitwise_or.reduce(self._frequencies))
        return (union & -union).bit_length() - 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that defines the table, in hexadecimal."""
        head = f"{self._minimum},{int(self._escape)};".encode()
        return hashlib.sha256(head + self._frequencies.astype("<u4").tobytes()).hexdigest()

    def code_length_bits(self, values: ArrayLike) -> float:
        """The ideal code length of ``values`` in bits, escape slots counted but not their side data.

        For reports and rate estimates only; no coder uses it.
        """
        slots = np.asarray(values, np.int64).ravel() - self._minimum
        outside = (slots < 0) | (slots > self.maximum - self._minimum)
        if outside.any() and not self._escape:
            raise InvalidParameter(
                f"{int(outside.sum())} values lie outside {self._minimum}..{self.maximum} and the "
                f"table has no escape slot; build it with escape=True"
            )
        histogram = np.bincount(np.where(outside, self.slots - 1, slots), minlength=self.slots)
        return float(histogram @ (PRECISION - np.log2(self._frequencies)))

    def to_bytes(self) -> bytes:
        """The table as a compact, self-delimiting field (see ``docs/entropy.md``)."""
        return self._serialised

    @cached_property
    def _serialised(self) -> bytes:
        from .table_format import write_table

        return write_table(self)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> FrequencyTable:
        """Read a table that fills ``data`` exactly.

        Raises:
            CorruptFile: the bytes are not a table, or bytes are left over.
        """
        from .table_format import read_table

        table, end = read_table(data, 0)
        if end != len(data):
            raise CorruptFile(f"frequency table: {len(data) - end} bytes left over at byte {end}")
        return table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrequencyTable) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        escape = ", escape" if self._escape else ""
        return f"FrequencyTable({self._minimum}..{self.maximum}{escape}, {self.digest[:8]})"


def _problem(array: NDArray[Any], escape: bool) -> str | None:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        return f"needs a flat array of integers, got {array.dtype} with shape {array.shape}"
    if not 1 <= array.size <= MAX_SYMBOLS:
        return f"needs 1 to {MAX_SYMBOLS} slots, got {array.size}"
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 1 or highest > TOTAL:
        return f"frequencies must lie in 1..2**24, got {lowest}..{highest}"
    total = int(array.sum(dtype=np.int64))
    if total != TOTAL:
        return f"frequencies must sum to 2**24 = {TOTAL}, got {total}"
    if escape and array.size < 2:
        return "an escape slot needs at least one other slot"
    return None


def normalise_counts(counts: ArrayLike, *, bits: int = PRECISION) -> NDArray[np.int64]:
    """Scale ``counts`` (integers >= 0, [slots]) to frequencies >= 1 that sum to ``2**bits``.

    Exact and deterministic: integers only. Slots whose fair share is below one get one; the others
    share the rest in proportion, rounded down, and the largest remainders (lowest slot first among
    equals) take what is left.

    Raises:
        InvalidParameter: no counts, a negative or non-integer one, or more slots than ``2**bits``.
    """
    array = np.asarray(counts)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise InvalidParameter(f"counts must be a flat array of integers, got {array.dtype} {array.shape}")
    if not 1 <= bits <= PRECISION or array.size > min(1 << bits, MAX_SYMBOLS):
        raise InvalidParameter(f"{array.size} slots do not fit frequencies that sum to 2**{bits}")
    if int(array.min()) < 0:
        raise InvalidParameter(f"counts must not be negative, got {int(array.min())}")
    weights = _shrink(array)
    target = 1 << bits
    floored = weights * target <= weights.sum()
    while True:
        # Raising small shares to one lowers the others' budget, which can push more below one.
        budget = target - int(floored.sum())
        total = max(int(weights[~floored].sum()), 1)
        below = ~floored & (weights * budget < total)
        if not below.any():
            break
        floored |= below
    if floored.all():
        # Only when every count is zero: nothing is known, so the split is even.
        weights, floored = np.ones_like(weights), np.zeros_like(floored)
        budget, total = target, int(weights.size)
    share, remainder = np.divmod(weights * budget, total)
    frequencies = np.where(floored, 1, share)
    missing = target - int(frequencies.sum())
    order = np.argsort(np.where(floored, 1, -remainder), kind="stable")
    frequencies[order[:missing]] += 1
    return frequencies


def _shrink(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Counts as int64, shifted right together until products with ``2**24`` stay below ``2**63``."""
    largest = int(counts.max())
    room = 63 - PRECISION - 1 - int(counts.size).bit_length()
    shift = max(largest.bit_length() - room, 0)
    shrunk = (counts >> counts.dtype.type(shift)).astype(np.int64)
    # A count that was seen stays seen.
    return np.where(counts > 0, np.maximum(shrunk, 1), 0)
