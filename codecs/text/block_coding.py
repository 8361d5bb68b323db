"""Coding one block of bytes: context mixing, with LZMA and plain storage as the ways out.

A block's payload is one method byte and the coded bytes. Methods: 0 stored, 1 LZMA, 0x10 + preset code context
mixing from an empty state, 0x20 + preset code context mixing from the trained state with the n-gram memory.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import CorruptFile
from .byte_model import ByteModel
from .contexts import fresh_registers
from .logistic import logistic_tables
from .model_state import ModelState, allocate_state, model_shape
from .predictor import DECODE, ENCODE, code_block
from .presets import Preset, preset_by_code
from .priming import restore_snapshot
from .recall import MEMORY_ORDERS

__all__ = [
    "LZMA_METHOD",
    "MAX_BLOCK_BYTES",
    "STORED_METHOD",
    "compress_lzma",
    "decode_block",
    "encode_mixed",
    "needs_model",
]

STORED_METHOD = 0
LZMA_METHOD = 1
_PLAIN = 0x10
_PRIMED = 0x20
MAX_BLOCK_BYTES = 64 << 20
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
_NO_MEMORY = np.zeros(16, np.uint16)


@dataclass(frozen=True, slots=True)
class _Start:
    state: ModelState
    memory: NDArray[np.uint16]
    orders: int


def _start(preset: Preset, model: ByteModel | None, size: int) -> _Start:
    if model is None:
        return _Start(allocate_state(preset, 0, size), _NO_MEMORY, 0)
    orders = MEMORY_ORDERS if preset.uses_memory else 0
    state = allocate_state(preset, orders, size)
    restore_snapshot(preset, state, model)
    return _Start(state, model.memory if orders else _NO_MEMORY, orders)


def encode_mixed(data: bytes, preset: Preset, model: ByteModel | None) -> bytes | None:
    """Code ``data`` by context mixing, primed when ``model`` is given; None when that does not save a byte."""
    start = _start(preset, model, len(data))
    coded = np.empty(len(data) + 8, np.uint8)
    size = code_block(
        ENCODE,
        np.frombuffer(data, np.uint8).copy(),
        len(data),
        coded,
        model_shape(preset, start.orders),
        logistic_tables(),
        start.state,
        start.memory,
        fresh_registers(),
    )
    if size < 0 or size >= len(data):
        return None
    method = (_PLAIN if model is None else _PRIMED) + preset.code
    return bytes([method]) + coded[:size].tobytes()


def compress_lzma(data: bytes) -> bytes:
    """``data`` as a block of raw LZMA2 with the settings of ``xz -9e``."""
    return bytes([LZMA_METHOD]) + lzma.compress(data, format=lzma.FORMAT_RAW, filters=_FILTERS)


def needs_model(payload: bytes) -> bool:
    """Whether a block's payload was coded from the trained state."""
    return len(payload) > 0 and payload[0] & 0xF0 == _PRIMED


def decode_block(payload: bytes, size: int, model: ByteModel | None, where: str) -> bytes:
    """The ``size`` bytes of a block.

    Args:
        payload: method byte and coded bytes.
        size: decoded size promised by the chunk; the caller has checked it against its limits.
        model: the byte model, when the file names one.
        where: the block's place in the file, for error messages.

    Raises:
        CorruptFile: the method is unknown, or the payload cannot decode to ``size`` bytes.
    """
    if not payload:
        raise CorruptFile(f"{where}: the block is empty")
    method, body = payload[0], payload[1:]
    if method == STORED_METHOD:
        if len(body) != size:
            raise CorruptFile(f"{where}: {len(body):,} stored bytes, {size:,} promised")
        return body
    if method == LZMA_METHOD:
        return _decompress_lzma(body, size, where)
    preset = preset_by_code(method & 0x0F)
    if method & 0xF0 not in (_PLAIN, _PRIMED) or preset is None:
        raise CorruptFile(f"{where}: unknown block method {method:#04x}")
    if method & 0xF0 == _PRIMED and model is None:
        raise CorruptFile(f"{where}: the block needs a byte model but the header names none")
    start = _start(preset, model if method & 0xF0 == _PRIMED else None, size)
    symbols = np.zeros(size, np.uint8)
    used = code_block(
        DECODE,
        symbols,
        size,
        np.frombuffer(body, np.uint8).copy(),
        model_shape(preset, start.orders),
        logistic_tables(),
        start.state,
        start.memory,
        fresh_registers(),
    )
    if used != len(body):
        raise CorruptFile(f"{where}: decoding {size:,} bytes used {used:,} of {len(body):,} coded bytes")
    return symbols.tobytes()


def _decompress_lzma(body: bytes, size: int, where: str) -> bytes:
    decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        data = decompressor.decompress(body, max_length=size + 1)
    except lzma.LZMAError as error:
        raise CorruptFile(f"{where}: LZMA data is damaged ({error})") from error
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise CorruptFile(f"{where}: LZMA data does not decode to exactly {size:,} bytes")
    return data
