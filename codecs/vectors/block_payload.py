"""One block of rows as bytes: codes as they are, or entropy-coded by lanes where that is smaller.

A block begins with a byte for its coding, the number of rows (varint), and the lengths of the rows where the file keeps
them. A lane is one stored dimension. What a lane codes is the whole code of formats of 8 bits and fewer, and the
exponent of wider floats; the sign and mantissa, which hardly compress, follow row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy import decode_lanes, encode_lanes
from ...entropy.bit_io import append_varint, read_varint
from ...formats.errors import CorruptFile, LimitExceeded
from . import kernels
from .quantiser import code_dtype
from .symbol_tables import NARROW_BITS, WIDE_BITS, count_symbols, table_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...entropy import FrequencyTable
    from .file_header import FileHeader
    from .model import FileModel

__all__ = ["Block", "decode_block", "encode_block", "lanes_of", "table_bits"]

PLAIN, FILE_TABLES, OWN_TABLE = range(3)
_LANE_OVERHEAD_BITS = 40
_TABLE_BITS = 800  # about the smallest table that is worth having


@dataclass(frozen=True, slots=True)
class Block:
    """Codes [n, stored] and, where the file keeps them, the lengths of the rows, float32 [n]."""

    codes: NDArray[Any]
    norms: NDArray[np.float32] | None


def table_bits(header: FileHeader) -> int:
    """The resolution of the frequency tables that an encoder makes."""
    return NARROW_BITS if header.bits <= 8 else WIDE_BITS


def lanes_of(codes: NDArray[Any], header: FileHeader) -> tuple[NDArray[np.uint8], bytes]:
    """What lanes code, uint8 [stored, n], and the rest of each code: nothing, or sign and mantissa of wider floats."""
    if header.bits <= 8:
        return _transposed(codes), b""
    exponents = np.empty(codes.shape, np.uint8)
    rest = np.empty((codes.size, header.bits // 8 - 1), np.uint8)
    kernels.split_floats(codes.reshape(-1), header.bits - 9, rest.shape[1], exponents.reshape(-1), rest)
    return _transposed(exponents), rest.tobytes()


def encode_block(block: Block, header: FileHeader, model: FileModel) -> bytes:
    """The payload of a chunk ``VROW``, by the coding that is smallest."""
    codes = block.codes
    head = bytearray([PLAIN])
    append_varint(head, len(codes))
    if block.norms is not None:
        head += block.norms.astype("<f4").tobytes()
    plain_bytes = len(codes) * header.row_bytes
    if header.tables and codes.size:
        lanes, rest = lanes_of(codes, header)
        coding, tables, numbers, bits = _cheapest(lanes, header, model)
        if bits / 8 + len(rest) < plain_bytes:
            coded = encode_lanes(lanes, tables, classes=numbers, tables_inside=coding == OWN_TABLE, threads=1)
            if len(coded) + len(rest) < plain_bytes:
                head[0] = coding
                return b"".join((head, coded, rest))
    return bytes(head) + _plain(codes, header)


def decode_block(payload: bytes, rows: int | None, header: FileHeader, model: FileModel) -> Block:
    """The codes of a payload that holds ``rows`` rows, or any number up to a block's where that is None.

    Raises :class:`CorruptFile`.
    """
    if not payload or payload[0] > OWN_TABLE:
        raise CorruptFile("VROW chunk: it does not begin with a known coding")
    count, position = read_varint(payload, 1, "VROW chunk, rows")
    if not 1 <= count <= header.block_rows or rows not in (None, count):
        raise CorruptFile(f"VROW chunk: it holds {count} rows, expected {rows or f'1 to {header.block_rows}'}")
    norms = None
    if header.norms:
        if len(payload) < position + 4 * count:
            raise CorruptFile("VROW chunk: it ends inside the lengths of its rows")
        norms = np.frombuffer(payload, "<f4", count, position).astype(np.float32)
        if not np.isfinite(norms).all():
            raise CorruptFile("VROW chunk: the length of a row is not finite")
        position += 4 * count
    body = memoryview(payload)[position:]
    if payload[0] == PLAIN:
        return Block(_from_plain(body, count, header), norms)
    if not header.tables:
        raise CorruptFile("VROW chunk: it is entropy-coded in a file that has no tables")
    rest_bytes = count * header.stored * (header.bits // 8 - 1) if header.bits > 8 else 0
    if len(body) < rest_bytes:
        raise CorruptFile("VROW chunk: it ends inside the mantissas")
    lanes, rest = body[: len(body) - rest_bytes], body[len(body) - rest_bytes :]
    symbols = _decode_symbols(lanes, count, header, model.tables if payload[0] == FILE_TABLES else None)
    return Block(symbols if header.bits <= 8 else _join(symbols, rest, header), norms)


def _decode_symbols(
    lanes: memoryview, count: int, header: FileHeader, tables: tuple[FrequencyTable, ...] | None
) -> NDArray[np.uint8]:
    """uint8 [count, stored]."""
    try:
        found = decode_lanes(lanes, tables=tables, threads=1, max_symbols=count * header.stored)
    except (LimitExceeded, ValueError) as error:
        raise CorruptFile(f"VROW chunk: {error}") from error
    if found.shape != (header.stored, count) or found.dtype != np.uint8:
        raise CorruptFile(f"VROW chunk: its lanes are {list(found.shape)}, expected {[header.stored, count]}")
    if header.bits < 8 and found.max() >> header.bits:
        raise CorruptFile(f"VROW chunk: a code does not fit {header.bits} bits")
    return _transposed(found)


def _transposed(source: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[n, d] in memory order from [d, n]."""
    columns, rows = source.shape
    if rows % 8 == 0 and columns % 8 == 0:
        target = np.empty((rows, columns), np.uint8)
        kernels.transpose_words(source.view(np.uint64), target.view(np.uint64))
        return target
    padded = np.zeros((columns + -columns % 8, rows + -rows % 8), np.uint8)
    padded[:columns, :rows] = source
    return np.ascontiguousarray(_transposed(padded)[:rows, :columns])


def _plain(codes: NDArray[Any], header: FileHeader) -> bytes:
    if header.bits < 8:
        packed = np.empty((len(codes), header.row_bytes), np.uint8)
        kernels.pack_codes(codes, header.bits, packed)
        return packed.tobytes()
    return codes.astype(codes.dtype.newbyteorder("<"), copy=False).tobytes()


def _from_plain(body: memoryview, count: int, header: FileHeader) -> NDArray[Any]:
    if len(body) != count * header.row_bytes:
        raise CorruptFile(f"VROW chunk: {len(body):,} bytes of codes, expected {count * header.row_bytes:,}")
    if header.bits < 8:
        codes = np.empty((count, header.stored), np.uint8)
        kernels.unpack_codes(np.frombuffer(body, np.uint8).reshape(count, -1), header.bits, codes)
        return codes
    dtype = np.dtype(code_dtype(header))
    return np.frombuffer(body, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(count, header.stored)


def _join(exponents: NDArray[np.uint8], rest: memoryview, header: FileHeader) -> NDArray[Any]:
    codes = np.empty(exponents.shape, code_dtype(header))
    low = np.frombuffer(rest, np.uint8).reshape(exponents.size, header.bits // 8 - 1)
    kernels.join_floats(exponents.reshape(-1), low, header.bits - 9, codes.reshape(-1))
    return codes


def _cheapest(
    lanes: NDArray[np.uint8], header: FileHeader, model: FileModel
) -> tuple[int, tuple[FrequencyTable, ...], NDArray[np.int64], float]:
    """The coding by the file's tables or by one of the block's own, and about how many bits it takes."""
    counts = count_symbols(lanes, 1 << min(header.bits, 8))
    numbers = np.zeros(len(lanes), np.int64) if model.table_numbers is None else model.table_numbers
    lengths = np.stack([24 - np.log2(table.frequencies) for table in model.tables])  # [tables, alphabet]
    overhead = _LANE_OVERHEAD_BITS * len(lanes)
    by_file = float((counts * lengths[numbers]).sum()) + overhead
    shared = counts.sum(axis=0)
    ideal = float(shared @ -np.log2(np.maximum(shared, 1) / max(int(shared.sum()), 1)))
    if ideal + overhead + _TABLE_BITS >= by_file:
        return FILE_TABLES, model.tables, numbers, by_file
    own = table_of(shared, table_bits(header))
    bits = float(shared @ (24 - np.log2(own.frequencies))) + overhead + 8 * len(own.to_bytes())
    if bits >= by_file:
        return FILE_TABLES, model.tables, numbers, by_file
    return OWN_TABLE, (own,), np.zeros(len(lanes), np.int64), bits
