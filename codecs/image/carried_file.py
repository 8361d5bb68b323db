"""Payloads of ``META`` and ``FILE`` chunks: metadata, and input files that are carried as they are."""

from __future__ import annotations

import lzma
from collections.abc import Mapping

from ...entropy.bit_io import append_varint, read_varint
from ...formats.errors import CorruptFile
from ...formats.limits import Limits
from ...formats.pictures import METADATA_KEYS

__all__ = ["pack_file", "pack_metadata", "unpack_file", "unpack_metadata"]

_STORED = 0
_LZMA = 1


def pack_metadata(metadata: Mapping[str, bytes]) -> bytes:
    """Per entry the number of its key, its size and its bytes; compressed where that helps."""
    plain = bytearray()
    for key, value in sorted(metadata.items()):
        append_varint(plain, METADATA_KEYS.index(key))
        append_varint(plain, len(value))
        plain += value
    return _packed(bytes(plain))


def unpack_metadata(payload: bytes, limits: Limits) -> dict[str, bytes]:
    """Invert :func:`pack_metadata`; raises :class:`CorruptFile`."""
    plain = _unpacked(payload, limits, "metadata")
    found: dict[str, bytes] = {}
    position = 0
    while position < len(plain):
        number, position = read_varint(plain, position, "metadata key")
        size, position = read_varint(plain, position, "metadata size")
        if number >= len(METADATA_KEYS) or size > len(plain) - position:
            raise CorruptFile(f"metadata: entry before byte {position} does not fit")
        found[METADATA_KEYS[number]] = plain[position : position + size]
        position += size
    return found


def pack_file(data: bytes, suffix: str) -> bytes:
    """The suffix of the file's format and its bytes, compressed where that helps."""
    name = suffix.encode()
    return bytes([len(name)]) + name + _packed(data)


def unpack_file(payload: bytes, size: int, limits: Limits) -> tuple[bytes, str]:
    """The file's bytes and suffix; raises :class:`CorruptFile` unless there are ``size`` bytes."""
    if not payload or len(payload) < 2 + payload[0]:
        raise CorruptFile("carried file: the chunk is too short")
    suffix = payload[1 : 1 + payload[0]]
    if not suffix.startswith(b".") or not suffix[1:].isalnum():
        raise CorruptFile(f"carried file: suffix {suffix!r} is not one of a file format")
    data = _unpacked(payload[1 + payload[0] :], limits, "carried file")
    if len(data) != size:
        raise CorruptFile(f"carried file: {len(data):,} bytes, {size:,} promised")
    return data, suffix.decode("ascii")


def _packed(data: bytes) -> bytes:
    compressed = lzma.compress(data, lzma.FORMAT_ALONE)
    if len(compressed) < len(data):
        return bytes([_LZMA]) + compressed
    return bytes([_STORED]) + data


def _unpacked(payload: bytes, limits: Limits, what: str) -> bytes:
    if not payload:
        raise CorruptFile(f"{what}: the chunk is empty")
    if payload[0] == _STORED:
        return payload[1:]
    if payload[0] != _LZMA:
        raise CorruptFile(f"{what}: unknown mode {payload[0]}")
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    try:
        plain = decompressor.decompress(payload[1:], limits.max_chunk_bytes + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise CorruptFile(f"{what}: {error}") from error
    limits.check("max_chunk_bytes", len(plain), what)
    if not decompressor.eof and decompressor.needs_input:
        raise CorruptFile(f"{what}: the compressed data ends too early")
    return plain
