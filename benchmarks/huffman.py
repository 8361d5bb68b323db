"""Huffman coding, as papers on fitted networks count it: one canonical code for all symbols, as real bytes."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ..entropy.bit_io import BitReader, BitWriter
from ..formats.errors import CorruptFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["decode_huffman", "encode_huffman"]

ALPHABET = 256
_LENGTH_BITS = 5  # of a code length; longer codes than 31 need more than a million symbols


def encode_huffman(symbols: NDArray[np.int64]) -> bytes:
    """The code lengths of symbols 0 to 255, five bits each, and the code of every symbol of ``symbols``, not empty."""
    import numpy as np

    lengths = _code_lengths(np.bincount(symbols, minlength=ALPHABET))
    codes = _canonical_codes(lengths)
    table = BitWriter()
    for length in lengths:
        table.write(length, _LENGTH_BITS)
    own_lengths = np.array(lengths)[symbols]
    own_codes = np.array(codes)[symbols]
    ends = np.cumsum(own_lengths)
    bits = np.zeros(int(ends[-1]), np.uint8)
    for back in range(max(lengths)):
        long_enough = own_lengths > back
        bits[ends[long_enough] - 1 - back] = (own_codes[long_enough] >> back) & 1
    return table.to_bytes() + np.packbits(bits).tobytes()


def decode_huffman(data: bytes, count: int) -> NDArray[np.int64]:
    """``count`` symbols of what :func:`encode_huffman` wrote; raises :class:`CorruptFile`."""
    import numpy as np

    reader = BitReader(data, 0, "Huffman table")
    lengths = [reader.read(_LENGTH_BITS) for _ in range(ALPHABET)]
    symbol_of = {
        (lengths[symbol], code): symbol for symbol, code in enumerate(_canonical_codes(lengths)) if lengths[symbol]
    }
    longest = max(lengths)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=reader.finish()))
    found = np.empty(count, np.int64)
    position = 0
    for number in range(count):
        code = length = 0
        while (length, code) not in symbol_of:
            if length == longest or position == len(bits):
                raise CorruptFile(f"Huffman data: bit {position} is in no code")
            code = code << 1 | int(bits[position])
            length, position = length + 1, position + 1
        found[number] = symbol_of[length, code]
    return found


def _code_lengths(counts: NDArray[np.int64]) -> list[int]:
    """Huffman's lengths; a symbol that is alone gets one bit."""
    lengths = [0] * len(counts)
    heap = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
        return lengths
    heapq.heapify(heap)
    while len(heap) > 1:
        one, two = heapq.heappop(heap), heapq.heappop(heap)
        members = one[2] + two[2]
        for symbol in members:
            lengths[symbol] += 1
        heapq.heappush(heap, (one[0] + two[0], min(one[1], two[1]), members))
    return lengths


def _canonical_codes(lengths: list[int]) -> list[int]:
    """Codes in order of length and symbol; 0 where the length is 0."""
    codes = [0] * len(lengths)
    code = before = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - before
        codes[symbol] = code
        code, before = code + 1, length
    return codes
