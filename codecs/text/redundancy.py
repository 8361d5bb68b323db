"""Cheap measurements that tell whether a dictionary coder may beat context mixing on some bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...entropy.native_compilation import compiled

__all__ = ["is_text", "may_favour_lzma", "repeated_share"]

_WINDOW = 48
_TABLE_BITS = 20
_TEXT_SHARE = 0.98
# Context mixing is about 20 % ahead of LZMA on text, so fewer repeats than this cannot make up for it.
_REPEATED_SHARE = 0.12
_SAFE_RATE_BPB = (0.8, 4.5)


def is_text(data: bytes) -> bool:
    """Whether nearly all bytes are printable ASCII, line ends or part of a multi-byte encoding."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    control = int(counts[:9].sum() + counts[14:32].sum() + counts[127])
    return control <= len(data) * (1 - _TEXT_SHARE)


@compiled
def _count_repeats(data, table):  # type: ignore[no-untyped-def]
    """Aligned windows whose rolling hash occurred earlier at any aligned place."""
    mask = len(table) - 1
    factor = np.int64(0x5851F42D4C957F2D)
    power = np.int64(1)
    for _ in range(_WINDOW):
        power = power * factor
    rolling = np.int64(0)
    skip_until = np.int64(0)
    repeats = np.int64(0)
    for i in range(len(data)):
        rolling = rolling * factor + data[i] + 1
        if i >= _WINDOW:
            rolling -= power * (np.int64(data[i - _WINDOW]) + 1)
        if i + 1 < _WINDOW:
            continue
        mixed = rolling ^ ((rolling >> 32) & 0xFFFFFFFF)
        slot = mixed & mask
        if table[slot] == rolling and i >= skip_until:
            repeats += 1
            skip_until = i + _WINDOW
        if (i + 1) % _WINDOW == 0:
            table[slot] = rolling
    return repeats


def repeated_share(data: bytes) -> float:
    """Share of ``data`` that repeats an earlier 48-byte window, however far back."""
    if len(data) < 2 * _WINDOW:
        return 0.0
    symbols: NDArray[np.uint8] = np.frombuffer(data, np.uint8).copy()
    bits = min(_TABLE_BITS, max(8, (len(data) // _WINDOW).bit_length() + 1))
    repeats = _count_repeats(symbols, np.zeros(1 << bits, np.int64))
    return float(repeats) * _WINDOW / len(data)


def may_favour_lzma(data: bytes, coded_bytes: int) -> bool:
    """Whether LZMA is worth trying on ``data`` that context mixing codes in ``coded_bytes``.

    On ordinary text context mixing always wins by a wide margin; LZMA can win on long repeats, on fixed-size binary
    records and on bytes that hardly compress.
    """
    rate = coded_bytes * 8 / max(1, len(data))
    if not _SAFE_RATE_BPB[0] < rate < _SAFE_RATE_BPB[1] or len(data) < 4096 or not is_text(data):
        return True
    return repeated_share(data) > _REPEATED_SHARE
