"""The contexts of the model: which hashes of the past each preset predicts from.

All values are int64; ``history`` packs the last eight bytes, the most recent lowest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...entropy.native_compilation import merged
from .hashing import fold

__all__ = ["REGISTERS", "Register", "fill_contexts", "fresh_registers", "update_registers"]

REGISTERS = 32 + 512


class Register(NamedTuple):
    """Indices into the register file that follows the text: words, lines, classes, records."""

    history: int = 0
    older: int = 1
    word: int = 2
    word1: int = 3
    word2: int = 4
    line_start: int = 5
    line_above: int = 6
    classes: int = 7
    first_of_line: int = 8
    record: int = 9
    letters: int = 10
    opener: int = 11
    word_length: int = 12
    separator: int = 13
    indent: int = 14
    last_seen: int = 32
    last_gap: int = 288


_R = Register()


@merged
def fill_contexts(level, data, i, reg, follow1, follow2, out):  # type: ignore[no-untyped-def]
    """Write the hash of every context of ``level`` for byte ``i`` of ``data`` into ``out``."""
    a = reg[_R.history]
    c1 = a & 0xFF
    c2 = (a >> 8) & 0xFF
    word = reg[_R.word]
    out[0] = fold(2, a & 0xFFFF)
    out[1] = fold(3, a & 0xFFFFFF)
    out[2] = fold(4, a & 0xFFFFFFFF)
    out[3] = fold(fold(6, word), c1)
    if level < 2:
        return
    out[4] = fold(5, a & 0xFFFFFFFFFFFF)
    out[5] = fold(1, c1)
    word1 = reg[_R.word1]
    out[6] = fold(7, a & 0xFFFFFFFFFF)
    out[7] = fold(8, a)
    out[8] = fold(fold(9, word), word1)
    out[9] = fold(fold(10, follow1[c1]), c1)
    out[10] = fold(11, follow2[a & 0xFFFF] & 0xFFFFFF)
    if level < 3:
        return
    word2 = reg[_R.word2]
    column = i - reg[_R.line_start]
    above = np.int64(0)
    if column >= 0 and reg[_R.line_above] + column < reg[_R.line_start]:
        above = np.int64(data[reg[_R.line_above] + column])
    near_column = min(column, 255)
    record = reg[_R.record]
    back1 = np.int64(data[i - record]) if i >= record else np.int64(0)
    back2 = np.int64(data[i - 2 * record]) if i >= 2 * record else np.int64(0)
    out[11] = fold(fold(fold(12, word), word1), word2)
    out[12] = fold(fold(13, word), word2)
    out[13] = fold(fold(14, above), c1 | (near_column << 8))
    out[14] = fold(fold(15, above), a & 0xFFFF)
    out[15] = fold(16, a & 0xFFFF00)
    out[16] = fold(17, a & 0xFF00FF)
    out[17] = fold(18, a & 0xFFFF0000)
    out[18] = fold(fold(19, reg[_R.classes] & 0xFFFFFFFF), c1)
    out[19] = fold(fold(20, reg[_R.letters]), np.int64(word != 0))
    out[20] = fold(fold(21, back1), c1 | ((i % record) << 8))
    out[21] = fold(fold(22, back1 | (back2 << 8)), c1 | (c2 << 8))
    out[22] = fold(fold(23, a & 0xF8F8F8F0FF), 0)
    out[23] = fold(fold(24, reg[_R.first_of_line] | (reg[_R.indent] << 8)), fold(word, c1))


@merged
def _character_class(c):  # type: ignore[no-untyped-def]
    if 97 <= c <= 122:
        return 1
    if 65 <= c <= 90:
        return 2
    if 48 <= c <= 57:
        return 3
    if c == 32:
        return 4
    if c == 10:
        return 5
    if c > 127:
        return 6
    return 7


@merged
def update_registers(level, data, i, c, reg, follow1, follow2):  # type: ignore[no-untyped-def]
    """Advance the registers past byte ``c`` = ``data[i]``."""
    a = reg[_R.history]
    c1 = a & 0xFF
    if level >= 2:
        follow1[c1] = (follow1[c1] << 8 | c) & 0xFFFF
        follow2[a & 0xFFFF] = (follow2[a & 0xFFFF] << 8 | c) & 0xFFFFFF
    reg[_R.older] = (reg[_R.older] << 8) | ((a >> 56) & 0xFF)
    reg[_R.history] = (a << 8) | c
    kind = _character_class(c)
    if kind <= 2 or kind == 6:
        folded = c | 32 if c < 128 else c
        reg[_R.word] = fold(reg[_R.word], folded)
        reg[_R.word_length] += 1
        reg[_R.letters] = (reg[_R.letters] << 8 | folded) & 0xFFFFFFFFFF
    elif reg[_R.word] != 0:
        reg[_R.word2] = reg[_R.word1]
        reg[_R.word1] = reg[_R.word]
        reg[_R.word] = 0
        reg[_R.word_length] = 0
    if level < 3:
        return
    if kind > 2 and kind != 6:
        reg[_R.separator] = c
    if c == 10:
        reg[_R.line_above] = reg[_R.line_start]
        reg[_R.line_start] = i + 1
        reg[_R.indent] = 0
    else:
        column = i - reg[_R.line_start]
        if column == 0:
            reg[_R.first_of_line] = c
        if (c == 32 or c == 9) and column == reg[_R.indent]:
            reg[_R.indent] = min(column + 1, 255)
    classes = reg[_R.classes]
    if kind != (classes & 7) or kind == 5 or kind == 7:
        reg[_R.classes] = (classes << 3) | kind
    gap = i - reg[_R.last_seen + c]
    # A byte value recurring at the same distance three times in a row suggests fixed-size records.
    if gap == (reg[_R.last_gap + c] & 0xFFFFFFFF) and 1 < gap < 1024:
        votes = (reg[_R.last_gap + c] >> 32) + 1
        reg[_R.last_gap + c] = gap | (votes << 32)
        if votes > 3 and gap != reg[_R.record]:
            reg[_R.record] = gap
            reg[_R.last_gap + c] = gap
    else:
        reg[_R.last_gap + c] = gap & 0xFFFFFFFF
    reg[_R.last_seen + c] = i


def fresh_registers() -> NDArray[np.int64]:
    """Registers at the start of a block."""
    reg = np.zeros(REGISTERS, np.int64)
    reg[_R.record] = 4
    return reg
