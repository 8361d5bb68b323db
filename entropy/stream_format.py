"""The byte layout of a symbol stream, shared by the ANS stack and the range-coder queue.

Number of 32-bit words, number of escapes, size of the escape section if there are any, escape
section, words (little-endian); ``docs/entropy.md`` is normative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import CorruptFile
from .bit_io import append_varint, read_varint
from .escapes import pack_escapes, unpack_escapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_stream", "write_stream"]


def write_stream(words: NDArray[np.uint32], codes: NDArray[np.int64]) -> bytes:
    """The stream of compressed ``words`` and the codes of the escaped values."""
    out = bytearray()
    append_varint(out, int(words.size))
    append_varint(out, int(codes.size))
    if codes.size:
        section = pack_escapes(codes)
        append_varint(out, len(section))
        out += section
    return bytes(out) + words.astype("<u4").tobytes()


def read_stream(data: bytes | memoryview, position: int) -> tuple[NDArray[np.uint32], NDArray[np.int64], int]:
    """The words and escape codes of the stream at ``position``, and the position after it."""
    what = "symbol stream"
    word_count, position = read_varint(data, position, f"{what}, word count")
    escape_count, position = read_varint(data, position, f"{what}, escape count")
    size = 0
    if escape_count:
        size, position = read_varint(data, position, f"{what}, escape section")
    end = position + size + 4 * word_count
    if end > len(data):
        raise CorruptFile(f"{what}: it needs {end} bytes and the data end at byte {len(data)}")
    codes = unpack_escapes(memoryview(data)[position : position + size], escape_count, what)
    words = np.frombuffer(data, "<u4", word_count, position + size).astype(np.uint32)
    return words, codes, end
