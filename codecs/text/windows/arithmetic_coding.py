"""Arithmetic coding of a whole block, the control that equal-info windows are compared with.

A 32-bit range coder with carries, as in LZMA, over frequencies of sum 65,536: those of the byte model, or one fixed
table ("static" in the paper, a unigram model).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled
from ....formats.errors import CorruptFile
from .context_model import ContextModel, predict

__all__ = ["decode_arithmetic", "encode_arithmetic"]


@compiled
def _encode(model, data, static, out):  # type: ignore[no-untyped-def]
    shares = np.empty(256, np.uint64)
    frequency = np.empty(256, np.int64)
    low = np.uint64(0)
    width = np.uint64(0xFFFFFFFF)
    held = np.uint64(0)  # the byte whose carry is still open, and the 255s behind it
    pending = 0
    size = 0
    begun = False
    for i in range(len(data) + 4):
        if i < len(data):
            if static:
                for y in range(256):
                    frequency[y] = model.root[y]
            else:
                predict(model, data, 0, i, True, shares, frequency)
            before = np.uint64(0)
            for y in range(data[i]):
                before += np.uint64(frequency[y])
            step = width >> np.uint64(16)
            low += step * before
            width = step * np.uint64(frequency[data[i]])
        # the four bytes of the low end flush the coder
        while width < np.uint64(1 << 24) or i >= len(data):
            if low < np.uint64(0xFF000000) or low >= np.uint64(1 << 32):
                carry = low >> np.uint64(32)
                if begun:
                    out[size] = np.uint8(held + carry & np.uint64(255))
                    size += 1
                for _ in range(pending):
                    out[size] = np.uint8(np.uint64(255) + carry & np.uint64(255))
                    size += 1
                pending = 0
                held = low >> np.uint64(24) & np.uint64(255)
                begun = True
            else:
                pending += 1
            low = (low & np.uint64(0x00FFFFFF)) << np.uint64(8)
            width = (width << np.uint64(8)) & np.uint64(0xFFFFFFFF)
            if i >= len(data):
                break
    if begun:
        out[size] = np.uint8(held)
        size += 1
    for _ in range(pending):
        out[size] = np.uint8(255)
        size += 1
    return size


@compiled
def _decode(model, coded, static, data):  # type: ignore[no-untyped-def]
    """Fill ``data``; return the position after the last byte read, or -1 for bytes no encoder makes."""
    shares = np.empty(256, np.uint64)
    frequency = np.empty(256, np.int64)
    width = np.uint64(0xFFFFFFFF)
    code = np.uint64(0)
    position = 0
    for _ in range(4):
        code = code << np.uint64(8) | (np.uint64(coded[position]) if position < len(coded) else np.uint64(0))
        position += 1
    for i in range(len(data)):
        if static:
            for y in range(256):
                frequency[y] = model.root[y]
        else:
            predict(model, data, 0, i, True, shares, frequency)
        step = width >> np.uint64(16)
        target = np.int64(code // step)
        if target > 65535:
            return -1
        before = np.int64(0)
        y = 0
        while before + frequency[y] <= target:
            before += frequency[y]
            y += 1
        data[i] = y
        code -= step * np.uint64(before)
        width = step * np.uint64(frequency[y])
        while width < np.uint64(1 << 24):
            code = code << np.uint64(8) | (np.uint64(coded[position]) if position < len(coded) else np.uint64(0))
            position += 1
            width <<= np.uint64(8)
    return position


def encode_arithmetic(data: NDArray[np.uint8], model: ContextModel, *, static: bool) -> NDArray[np.uint8]:
    """``data`` in one arithmetic code; ``static`` codes every byte by the model's empty context."""
    out = np.empty(2 * len(data) + 16, np.uint8)
    return out[: int(_encode(model, data, static, out))].copy()


def decode_arithmetic(
    coded: NDArray[np.uint8], size: int, model: ContextModel, *, static: bool, where: str = "arithmetic code"
) -> NDArray[np.uint8]:
    """The ``size`` bytes of an arithmetic code.

    Raises :class:`CorruptFile` for bytes no encoder makes, as far as that shows.
    """
    data = np.empty(size, np.uint8)
    used = int(_decode(model, coded, static, data))
    if used != len(coded):
        raise CorruptFile(f"{where}: {len(coded):,} bytes are not the code of {size:,} bytes of text")
    return data
