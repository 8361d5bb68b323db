"""Coding one block of bytes: context mixing, with LZMA and plain storage as the ways out.

A block's payload is one method byte and the coded bytes. Methods: 0 stored, 1 LZMA, 0x10 + preset code context
mixing from an empty state, 0x20, 0x30 + preset code context mixing from the trained state of the first or second
profile, with the n-gram memory where the preset uses it.
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
from .priming import PROFILES, restore_snapshot
from .recall import MEMORY_ORDERS
from .workspace import allocate_workspace

__all__ = [
    "LZMA_METHOD",
    "MAX_BLOCK_BYTES",
    "STORED_METHOD",
    "Prior",
    "choose_prior",
    "compress_lzma",
    "decode_block",
    "encode_mixed",
    "needs_model",
]

STORED_METHOD = 0
LZMA_METHOD = 1
_PLAIN = 0x10
_PRIMED = {0x20 + 0x10 * number: profile for number, profile in enumerate(PROFILES)}
MAX_BLOCK_BYTES = 64 << 20
_SAMPLE_BYTES = 8000
# What a trained start gains on the sample it gains at the beginning of a long block; less than this fades.
_LASTING_SHARE = 0.975
_NO_MEMORY = np.zeros(16, np.uint16)


@dataclass(frozen=True, slots=True)
class Prior:
    """A trained start: the model and which of its profiles."""

    model: ByteModel
    profile: str


@dataclass(frozen=True, slots=True)
class _Start:
    state: ModelState
    memory: NDArray[np.uint16]
    orders: int


def _start(preset: Preset, prior: Prior | None, size: int) -> _Start:
    if prior is None:
        return _Start(allocate_state(preset, 0, size), _NO_MEMORY, 0)
    orders = MEMORY_ORDERS if preset.uses_memory else 0
    state = allocate_state(preset, orders, size)
    restore_snapshot(preset, prior.profile, state, prior.model)
    return _Start(state, prior.model.memory if orders else _NO_MEMORY, orders)


def encode_mixed(data: bytes, preset: Preset, prior: Prior | None) -> bytes | None:
    """Code ``data`` by context mixing, primed when ``prior`` is given; None when that does not save a byte."""
    start = _start(preset, prior, len(data))
    coded = np.empty(len(data) + 8, np.uint8)
    shape = model_shape(preset, start.orders, primed=prior is not None)
    size = code_block(
        ENCODE,
        np.frombuffer(data, np.uint8).copy(),
        len(data),
        coded,
        shape,
        logistic_tables(),
        start.state,
        start.memory,
        fresh_registers(),
        allocate_workspace(shape),
    )
    if size < 0 or size >= len(data):
        return None
    return bytes([_method(preset, prior)]) + coded[:size].tobytes()


def choose_prior(data: bytes, preset: Preset, model: ByteModel) -> Prior | None:
    """The start that codes a sample of ``data`` in the fewest bytes: empty, or one of the trained states."""
    if len(data) <= 3 * _SAMPLE_BYTES:
        sample = data
    else:
        places = (0, len(data) // 2, len(data) - _SAMPLE_BYTES)
        sample = b"".join(data[place : place + _SAMPLE_BYTES] for place in places)
    candidates = [None, *(Prior(model, profile) for profile in PROFILES)]
    sizes = [len(encode_mixed(sample, preset, prior) or sample) for prior in candidates]
    if len(data) > len(sample) and min(sizes) > sizes[0] * _LASTING_SHARE:
        return None
    return candidates[sizes.index(min(sizes))]


def _method(preset: Preset, prior: Prior | None) -> int:
    if prior is None:
        return _PLAIN + preset.code
    return 0x20 + 0x10 * PROFILES.index(prior.profile) + preset.code


def compress_lzma(data: bytes, *, quickly: bool = False) -> bytes:
    """``data`` as a block of raw LZMA2 with the settings of ``xz -9e``, or ``quickly`` and less well."""
    filters = _filters(len(data))
    if quickly:
        filters[0] |= {"mode": lzma.MODE_FAST, "mf": lzma.MF_HC4}
    return bytes([LZMA_METHOD]) + lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)


def needs_model(payload: bytes) -> bool:
    """Whether a block's payload was coded from the trained state."""
    return len(payload) > 0 and payload[0] & 0xF0 in _PRIMED


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
    profile = _PRIMED.get(method & 0xF0)
    if preset is None or (profile is None and method & 0xF0 != _PLAIN):
        raise CorruptFile(f"{where}: unknown block method {method:#04x}")
    if profile is not None and model is None:
        raise CorruptFile(f"{where}: the block needs a byte model but the header names none")
    prior = None if model is None or profile is None else Prior(model, profile)
    start = _start(preset, prior, size)
    symbols = np.zeros(size, np.uint8)
    shape = model_shape(preset, start.orders, primed=prior is not None)
    used = code_block(
        DECODE,
        symbols,
        size,
        np.frombuffer(body, np.uint8).copy(),
        shape,
        logistic_tables(),
        start.state,
        start.memory,
        fresh_registers(),
        allocate_workspace(shape),
    )
    if used != len(body):
        raise CorruptFile(f"{where}: decoding {size:,} bytes used {used:,} of {len(body):,} coded bytes")
    return symbols.tobytes()


def _filters(size: int) -> list[dict[str, int]]:
    """The settings of ``xz -9e``, with no larger window than ``size`` bytes can fill (it decides the memory used)."""
    window = 1 << min(26, max(12, (size - 1).bit_length()))
    return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window}]


def _decompress_lzma(body: bytes, size: int, where: str) -> bytes:
    decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_filters(size))
    try:
        data = decompressor.decompress(body, max_length=size + 1)
    except lzma.LZMAError as error:
        raise CorruptFile(f"{where}: LZMA data is damaged ({error})") from error
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise CorruptFile(f"{where}: LZMA data does not decode to exactly {size:,} bytes")
    return data
