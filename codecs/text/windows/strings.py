"""A table of strings by token id, and expanding tokens through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled
from ....formats.errors import CorruptFile

__all__ = ["StringTable", "expand", "string_table"]

_STEP = 16  # bytes copied at once; the pool and every output have as much slack
_LONGEST = 65535


@dataclass(frozen=True, slots=True)
class StringTable:
    """The strings by token id: ``pool[offsets[t] : offsets[t] + lengths[t]]``; an empty string is no token."""

    pool: NDArray[np.uint8]
    offsets: NDArray[np.uint32]
    lengths: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.lengths)

    def string(self, token: int) -> bytes:
        """The bytes that ``token`` stands for."""
        start = int(self.offsets[token])
        return self.pool[start : start + int(self.lengths[token])].tobytes()

    def strings(self) -> list[bytes]:
        """All strings in the order of their ids."""
        return [self.string(token) for token in range(len(self))]


def string_table(strings: Sequence[bytes]) -> StringTable:
    """A table of ``strings``, each at most 65,535 bytes, in the given order."""
    lengths = np.array([len(string) for string in strings], np.int64)
    if lengths.max(initial=0) > _LONGEST:
        raise ValueError(f"a string of a dictionary has at most {_LONGEST:,} bytes")
    offsets = (np.cumsum(lengths) - lengths).astype(np.uint32)
    pool = np.frombuffer(b"".join(strings) + bytes(_STEP), np.uint8).copy()
    return StringTable(pool, offsets, lengths.astype(np.uint16))


@intrinsic  # type: ignore[untyped-decorator]
def _copy16(typing_context: Any, target: Any, to: Any, source: Any, start: Any) -> Any:
    """Copy 16 bytes between arrays of bytes, aligned or not."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), _STEP).as_pointer()
        places = []
        for number in (0, 2):
            array = context.make_array(signature.args[number])(context, builder, arguments[number])
            place = builder.gep(array.data, [arguments[number + 1]])
            places.append(builder.bitcast(place, vector))
        piece = builder.load(places[1])
        piece.align = 1
        builder.store(piece, places[0], align=1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate


@compiled
def _expanded_size(tokens, lengths):  # type: ignore[no-untyped-def]
    """The number of bytes the tokens stand for, or -1 - position of the first id that stands for nothing."""
    total = np.int64(0)
    known = len(lengths)
    bad = False
    for k in range(len(tokens)):
        token = np.int64(tokens[k])
        length = np.int64(lengths[token]) if token < known else np.int64(0)
        bad |= length == 0
        total += length
    if bad:
        for k in range(len(tokens)):
            if np.int64(tokens[k]) >= known or lengths[tokens[k]] == 0:
                return -1 - k
    return total


@compiled
def _expand(tokens, pool, offsets, lengths, out):  # type: ignore[no-untyped-def]
    position = np.int64(0)
    for k in range(len(tokens)):
        start = np.int64(offsets[tokens[k]])
        length = np.int64(lengths[tokens[k]])
        # Whole steps; the surplus is overwritten by the next string.
        _copy16(out, position, pool, start)
        for done in range(16, length, 16):
            _copy16(out, position + done, pool, start + done)
        position += length


def expand(tokens: NDArray[np.uint16], table: StringTable, *, where: str = "tokens") -> NDArray[np.uint8]:
    """The bytes that ``tokens`` stand for.

    Raises :class:`CorruptFile` naming the first id that stands for no string.
    """
    size = int(_expanded_size(tokens, table.lengths))
    if size < 0:
        position = -1 - size
        raise CorruptFile(f"{where}: id {int(tokens[position])} at position {position:,} stands for no string")
    out = np.empty(size + _STEP, np.uint8)
    _expand(tokens, table.pool, table.offsets, table.lengths, out)
    return out[:size]
