"""The chunks of a KVTC file: exact tokens, and components of ranges of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ....entropy.bit_io import append_varint, read_varint
from ....formats.errors import CorruptFile
from ....formats.safetensors_file import DTYPES
from ..exact_planes import decode_part, encode_part
from ..number_formats import check_finite, from_float32_clipped, to_float32
from ..rotary import rotate, unrotate
from .components import pack_components, unpack_components
from .profile import ROLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import Cache
    from .file_layout import KVTCLayout
    from .profile import KVTCProfile

    Floats = NDArray[np.float32]

__all__ = ["decode_components", "decode_exact", "encode_components", "encode_exact"]


def encode_exact(cache: Cache, layout: KVTCLayout) -> bytes:
    """Sinks and window of every part in file order, as ``kv-lossless`` codes them."""
    chosen = layout.exact_tokens()
    out = bytearray()
    for number, part, tensor in cache.each():
        check_finite(to_float32(tensor), f"layer {number} {part.role}")
        if chosen.size:
            bits = tensor.data[:, chosen].view(np.uint32 if part.dtype == "F32" else np.uint16)
            out += encode_part(np.ascontiguousarray(bits.swapaxes(1, 2)).reshape(part.channels, -1), part.dtype)
    return bytes(out)


def decode_exact(data: bytes, layout: KVTCLayout, result: Cache, threads: int) -> None:
    """Invert :func:`encode_exact` into ``result``; raises :class:`CorruptFile`."""
    chosen = layout.exact_tokens()
    position = 0
    for _, part, tensor in result.each():
        if chosen.size:
            bits, position = decode_part(data, position, part.channels, chosen.size, part.dtype, threads)
            by_head = bits.reshape(part.heads, part.width, chosen.size).swapaxes(1, 2)
            tensor.data[:, chosen] = np.ascontiguousarray(by_head).view(DTYPES[part.dtype])
    if position != len(data):
        raise CorruptFile(f"exact tokens: {len(data) - position} bytes left over")


def encode_components(cache: Cache, layout: KVTCLayout, profile: KVTCProfile, start: int, stop: int) -> bytes:
    """The components of tokens ``start`` to ``stop``: those of keys with their length, then those of values."""
    out = bytearray()
    for role, groups, part in zip(ROLES, layout.groups, profile.parts, strict=True):
        features = _features(cache, role, start, stop)
        rank = sum(group.size for group in groups)
        packed = pack_components((features - part.mean) @ part.basis[:, :rank].astype(np.float32), groups)
        append_varint(out, len(packed))
        out += packed
    return bytes(out)


def decode_components(
    data: bytes, layout: KVTCLayout, profile: KVTCProfile, start: int, stop: int, result: Cache
) -> None:
    """Invert :func:`encode_components` into ``result``; raises :class:`CorruptFile`."""
    position = 0
    for role, groups, part in zip(ROLES, layout.groups, profile.parts, strict=True):
        what = f"{role} components of tokens {start} to {stop}"
        length, position = read_varint(data, position, what)
        if length > len(data) - position:
            raise CorruptFile(f"{what}: {length} bytes promised, {len(data) - position} are left")
        components = unpack_components(data[position : position + length], stop - start, groups, what)
        position += length
        basis = part.basis[:, : components.shape[1]].astype(np.float32)
        _store(result, role, start, stop, components @ basis.T + part.mean)
    if position != len(data):
        raise CorruptFile(f"components of tokens {start} to {stop}: {len(data) - position} bytes left over")


def _features(cache: Cache, role: str, start: int, stop: int) -> Floats:
    """[tokens, layers * heads * width], keys before RoPE."""
    positions = cache.table.first_position + np.arange(start, stop)
    rows = []
    for number, part, tensor in cache.each():
        if part.role != role:
            continue
        values = to_float32(type(tensor)(dtype=tensor.dtype, data=tensor.data[:, start:stop]))
        check_finite(values, f"layer {number} {role}", first_token=start)
        if cache.table.rotary is not None and part.rotated:
            values = unrotate(values, cache.table.rotary, positions)
        rows.append(values.swapaxes(0, 1).reshape(stop - start, -1))
    return np.concatenate(rows, axis=1)


def _store(result: Cache, role: str, start: int, stop: int, features: Floats) -> None:
    positions = result.table.first_position + np.arange(start, stop)
    first = 0
    for _, part, tensor in result.each():
        if part.role != role:
            continue
        own = features[:, first : first + part.channels].reshape(stop - start, part.heads, part.width).swapaxes(0, 1)
        first += part.channels
        if result.table.rotary is not None and part.rotated:
            own = rotate(own, result.table.rotary, positions)
        tensor.data[:, start:stop] = from_float32_clipped(own, part.dtype).data
