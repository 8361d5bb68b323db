"""Coding a segment: its blocks in parallel, or the whole of it as one LZMA block when that is smaller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from .block_coding import STORED_METHOD, choose_prior, compress_lzma, encode_mixed
from .byte_model import ByteModel
from .presets import Preset
from .redundancy import may_favour_lzma, repeated_share

__all__ = ["SEGMENT_BYTES", "CodedBlock", "encode_segment"]

SEGMENT_BYTES = 64 << 20
_ONLY_REPEATS_SHARE = 0.98
_ONLY_REPEATS_RATE_BPB = 0.01
# No LZMA code is shorter than one byte for so many: that is one byte value over and over, in matches of full length.
_MOST_LZMA_RATIO = 6821
# What the container adds per chunk: framing and its index entry.
_FRAME_BYTES = 52


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedBlock:
    """A block ready to be written: its payload and how many bytes it decodes to."""

    payload: bytes
    size: int


def encode_segment(
    data: bytes,
    preset: Preset,
    block_bytes: int,
    model: ByteModel | None,
    threads: int,
    report: Callable[[int], None],
) -> list[CodedBlock]:
    """Code ``data`` into blocks; ``report`` is told how many bytes of it are done.

    The result depends on the data, the preset and ``block_bytes`` alone, never on ``threads``.
    """
    if (shortcut := _only_repeats(data)) is not None:
        return [shortcut]
    pieces = [data[start : start + block_bytes] for start in range(0, len(data), block_bytes)]
    blocks: list[CodedBlock] = []
    done = 0
    with ThreadPoolExecutor(max_workers=max(1, min(threads, len(pieces)))) as executor:
        for block in executor.map(partial(_encode_block, preset=preset, model=model), pieces):
            blocks.append(block)
            done += block.size
            report(done)
    coded_bytes = sum(len(block.payload) + _FRAME_BYTES for block in blocks)
    if len(pieces) > 1 and may_favour_lzma(data, coded_bytes):
        whole = compress_lzma(data)
        if len(whole) + _FRAME_BYTES < coded_bytes:
            return [CodedBlock(payload=whole, size=len(data))]
    return blocks


def _only_repeats(data: bytes) -> CodedBlock | None:
    """``data`` as one LZMA block where it is repetition and nothing else, which LZMA codes fifty times as fast."""
    if repeated_share(data) < _ONLY_REPEATS_SHARE:
        return None
    payload = compress_lzma(data, quickly=True)
    if len(payload) > len(data) / _MOST_LZMA_RATIO + 200:  # a thorough search may find something shorter
        payload = compress_lzma(data)
    if len(payload) * 8 > len(data) * _ONLY_REPEATS_RATE_BPB:
        return None
    return CodedBlock(payload=payload, size=len(data))


def _encode_block(data: bytes, *, preset: Preset, model: ByteModel | None) -> CodedBlock:
    """The smallest of context mixing, LZMA (where it stands a chance) and storage."""
    best = bytes([STORED_METHOD]) + data
    prior = choose_prior(data, preset, model) if model is not None and data else None
    mixed = encode_mixed(data, preset, prior)
    if mixed is not None and len(mixed) < len(best):
        best = mixed
    if may_favour_lzma(data, len(best)):
        candidate = compress_lzma(data)
        if len(candidate) < len(best):
            best = candidate
    return CodedBlock(payload=best, size=len(data))
