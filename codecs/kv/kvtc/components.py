"""Principal components as bytes: quantised in their groups, packed into bits, deflated."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from ....formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .allocation import Group

    Floats = NDArray[np.float32]
    Halves = NDArray[np.float16]

__all__ = ["pack_components", "quantised_error", "unpack_components"]

_LEVEL = 9


def quantised_error(block: Floats, bits: int) -> float:
    """Mean over tokens of the squared error of ``block`` [tokens, size] as one group of ``bits`` bits."""
    if bits == 0:
        restored = np.zeros_like(block)
    elif bits == 16:
        restored = _half(block).astype(np.float32)
    else:
        symbols, shifts, scales = _quantise(block, bits)
        restored = _dequantise(symbols, shifts, scales)
    return float(np.square(block - restored).sum(axis=1, dtype=np.float64).mean())


def pack_components(components: Floats, groups: Sequence[Group]) -> bytes:
    """DEFLATE over the groups' symbols, then the high and the low bytes of their shifts, scales and float16 values."""
    packed: list[bytes] = []
    halves: list[Halves] = []
    start = 0
    for group in groups:
        block = components[:, start : start + group.size]
        start += group.size
        if group.bits == 16:
            halves.append(_half(block).ravel())
        elif group.bits:
            symbols, shifts, scales = _quantise(block, group.bits)
            packed.append(_pack(symbols, group.bits))
            halves += [shifts, scales]
    numbers = np.concatenate([np.zeros(0, np.float16), *halves]).view(np.uint16)
    planes = [(numbers >> np.uint16(8)).astype(np.uint8).tobytes(), numbers.astype(np.uint8).tobytes()]
    return zlib.compress(b"".join([*packed, *planes]), _LEVEL)


def unpack_components(data: bytes, tokens: int, groups: Sequence[Group], what: str) -> Floats:
    """Invert :func:`pack_components`: float32 [tokens, components]; raises :class:`CorruptFile` naming ``what``."""
    symbol_bytes = [tokens * group.size * group.bits // 8 if group.bits < 16 else 0 for group in groups]
    half_counts = [tokens * group.size if group.bits == 16 else 2 * tokens if group.bits else 0 for group in groups]
    total = sum(symbol_bytes) + 2 * sum(half_counts)
    body = _inflate(data, total, what)
    high = np.frombuffer(body, np.uint8, sum(half_counts), sum(symbol_bytes)).astype(np.uint16)
    low = np.frombuffer(body, np.uint8, sum(half_counts), sum(symbol_bytes) + sum(half_counts))
    halves = (high << np.uint16(8) | low).view(np.float16)
    if not np.isfinite(halves).all():
        raise CorruptFile(f"{what}: a shift or scale is not finite")
    result = np.zeros((tokens, sum(group.size for group in groups)), np.float32)
    start = place = first = 0
    for group, size, count in zip(groups, symbol_bytes, half_counts, strict=True):
        target = result[:, start : start + group.size]
        own = halves[first : first + count]
        if group.bits == 16:
            target[...] = own.reshape(tokens, group.size)
        elif group.bits:
            symbols = _unpack(np.frombuffer(body, np.uint8, size, place), group.bits).reshape(tokens, group.size)
            target[...] = _dequantise(symbols, own[:tokens], own[tokens:])
        start, place, first = start + group.size, place + size, first + count
    return result


def _quantise(block: Floats, bits: int) -> tuple[NDArray[np.uint8], Halves, Halves]:
    """Symbols [tokens, size], shifts and scales [tokens]."""
    levels = (1 << bits) - 1
    shifts = _half(block.min(axis=1))
    low = shifts.astype(np.float32)
    scales = _half((block.max(axis=1) - low) / np.float32(levels))
    divisor = np.where(scales > 0, scales, np.float16(1)).astype(np.float32)
    symbols = np.rint((block - low[:, None]) / divisor[:, None])
    return np.clip(symbols, 0, levels).astype(np.uint8), shifts, scales


def _dequantise(symbols: NDArray[np.uint8], shifts: Halves, scales: Halves) -> Floats:
    result: Floats = symbols * scales.astype(np.float32)[:, None] + shifts.astype(np.float32)[:, None]
    return result


def _half(values: Floats) -> Halves:
    with np.errstate(over="ignore"):
        half: Halves = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise InvalidParameter("a principal component exceeds float16; store such a cache with kv-lossless")
    return half


def _pack(symbols: NDArray[np.uint8], bits: int) -> bytes:
    flat = symbols.ravel()
    joined = np.zeros(flat.size * bits // 8, np.uint8)
    for number in range(8 // bits):
        joined |= flat[number :: 8 // bits] << np.uint8(number * bits)
    return joined.tobytes()


def _unpack(joined: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    parts = [joined >> np.uint8(number * bits) & np.uint8((1 << bits) - 1) for number in range(8 // bits)]
    symbols: NDArray[np.uint8] = np.stack(parts, axis=1).ravel()
    return symbols


def _inflate(data: bytes, total: int, what: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(data, total + 1)
    except zlib.error as error:
        raise CorruptFile(f"{what}: not a DEFLATE stream: {error}") from error
    if len(body) != total or not stream.eof or stream.unused_data:
        raise CorruptFile(f"{what}: {len(body):,} bytes inflated, expected {total:,} and the end")
    return body
