"""Floating-point numbers split into a top that compresses and low mantissa bits that do not, exactly.

The top of a 16-bit number is its sign, its exponent and its first mantissa bits; float32 numbers are treated as
bfloat16 numbers followed by 16 more raw bits. Channels with similar statistics share a frequency table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.frequency_table import FrequencyTable
from ...entropy.lanes import decode_lanes, encode_lanes
from ...formats.errors import CorruptFile
from ...formats.safetensors_file import DTYPES
from .integer_fields import append_integers, read_integers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode_part", "encode_part"]

# low bits kept raw out of 16
_RAW_BITS = {"F16": 8, "BF16": 6, "F32": 6}
_SYMBOLS_PER_TABLE = 1 << 14
_MAX_TABLES = 24
_LANE_SYMBOLS = 1 << 14
_ROUNDS = 3


def encode_part(bits: NDArray[Any], dtype: str) -> bytes:
    """The payload of a part; ``bits`` [channels, tokens] are uint16, or uint32 for F32."""
    raw_bits = _RAW_BITS[dtype]
    upper = (bits >> np.uint32(16)).astype(np.uint16) if dtype == "F32" else bits
    tops = upper >> np.uint16(raw_bits)
    present = np.flatnonzero(np.bincount(tops.ravel(), minlength=1 << (16 - raw_bits)))
    rank = np.zeros(1 << (16 - raw_bits), np.uint16)
    rank[present] = np.arange(present.size)
    symbols = rank[tops]
    assigned, tables = _cluster(symbols, present.size)
    groups = _channels_per_lane(*bits.shape)
    lanes = bits.shape[0] // groups
    block = encode_lanes(
        symbols.reshape(lanes, -1),
        tables,
        classes=assigned.reshape(lanes, groups),
        group_size=bits.shape[1],
    )
    out = bytearray()
    append_integers(out, np.diff(present, prepend=0))
    append_varint(out, len(block))
    out += block
    out += _pack_low(upper.ravel() & np.uint16((1 << raw_bits) - 1), raw_bits)
    if dtype == "F32":
        out += (bits & np.uint32(0xFFFF)).astype("<u2").tobytes()
    return bytes(out)


def decode_part(
    data: bytes, position: int, channels: int, tokens: int, dtype: str, threads: int
) -> tuple[NDArray[Any], int]:
    """Invert :func:`encode_part` at ``position`` of ``data``: the bits [channels, tokens], and where it ended.

    Raises :class:`CorruptFile`.
    """
    what = "exact cache part"
    raw_bits = _RAW_BITS[dtype]
    count, _ = read_varint(data, position, what)
    if not 1 <= count <= 1 << 16:
        raise CorruptFile(f"{what}: {count} different tops")
    steps, position = read_integers(data, position, count, what)
    present = np.cumsum(steps)
    if present.min() < 0 or present.max() >= 1 << (16 - raw_bits):
        raise CorruptFile(f"{what}: a top does not fit {16 - raw_bits} bits")
    length, position = read_varint(data, position, what)
    if length > len(data) - position:
        raise CorruptFile(f"{what}: {length} bytes of lanes promised, {len(data) - position} are left")
    size = channels * tokens
    symbols = decode_lanes(memoryview(data)[position : position + length], threads=threads, max_symbols=size)
    position += length
    if symbols.size != size or symbols.min() < 0 or symbols.max() >= count:
        raise CorruptFile(f"{what}: the lanes do not hold {channels} x {tokens} tops")
    upper = present.astype(np.uint16)[symbols.ravel()] << np.uint16(raw_bits)
    low, position = _unpack_low(data, position, size, raw_bits, what)
    upper |= low
    if dtype != "F32":
        return upper.reshape(channels, tokens), position
    if position + 2 * size > len(data):
        raise CorruptFile(f"{what}: the data end inside the low halves")
    lower = np.frombuffer(data, "<u2", size, position)
    joined = (upper.astype(np.uint32) << np.uint32(16)) | lower
    return joined.astype(DTYPES["U32"]).reshape(channels, tokens), position + 2 * size


def _channels_per_lane(channels: int, tokens: int) -> int:
    """The largest divisor of ``channels`` whose lane stays near the usual length."""
    wanted = max(1, min(channels, _LANE_SYMBOLS // tokens))
    return next(size for size in range(wanted, 0, -1) if channels % size == 0)


def _cluster(symbols: NDArray[Any], alphabet: int) -> tuple[NDArray[np.int64], list[FrequencyTable]]:
    """Group channels whose histograms code well with one table: k-means in code length."""
    channels, tokens = symbols.shape
    offsets = np.arange(channels)[:, None] * alphabet
    counts = np.bincount((symbols + offsets).ravel(), minlength=channels * alphabet)
    histograms = counts.reshape(channels, alphabet)
    wanted = max(1, min(_MAX_TABLES, channels, channels * tokens // _SYMBOLS_PER_TABLE))
    order = np.argsort(histograms @ np.arange(alphabet), kind="stable")
    assigned = np.empty(channels, np.int64)
    assigned[order] = np.arange(channels) * wanted // channels
    for _ in range(_ROUNDS):
        sums = np.stack([histograms[assigned == k].sum(axis=0) for k in range(wanted)])
        shares = (sums + 0.05) / (sums.sum(axis=1, keepdims=True) + 0.05 * alphabet)
        assigned = (-histograms @ np.log2(shares).T).argmin(axis=1)
    used, assigned = np.unique(assigned, return_inverse=True)
    tables = [FrequencyTable.from_counts(histograms[assigned == k].sum(axis=0)) for k in range(used.size)]
    return assigned, tables


def _pack_low(values: NDArray[np.uint16], bits: int) -> bytes:
    if bits == 8:
        return values.astype(np.uint8).tobytes()
    # four numbers of six bits in three bytes
    padded = np.zeros(-(-values.size // 4) * 4, np.uint32)
    padded[: values.size] = values
    quads = padded.reshape(-1, 4)
    joined = quads[:, 0] | quads[:, 1] << 6 | quads[:, 2] << 12 | quads[:, 3] << 18
    return np.ascontiguousarray(joined.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]).tobytes()


def _unpack_low(data: bytes, position: int, count: int, bits: int, what: str) -> tuple[NDArray[np.uint16], int]:
    size = count if bits == 8 else -(-count // 4) * 3
    if position + size > len(data):
        raise CorruptFile(f"{what}: the data end inside the mantissas")
    stored = np.frombuffer(data, np.uint8, size, position)
    if bits == 8:
        return stored.astype(np.uint16), position + size
    wide = np.zeros((size // 3, 4), np.uint8)
    wide[:, :3] = stored.reshape(-1, 3)
    joined = wide.view("<u4").ravel()
    values = np.stack([(joined >> shift) & 63 for shift in (0, 6, 12, 18)], axis=1)
    return values.astype(np.uint16).ravel()[:count], position + size
