"""Finding the whole chunks of a truncated or damaged file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from .checksums import checksum64
from .chunk import (
    CHECKSUM_SIZE,
    END_TYPE,
    HEADER_SIZE,
    INDEX_TYPE,
    OVERHEAD,
    SYNC,
    Chunk,
    ChunkHeader,
    IndexEntry,
)
from .chunk import unpack_index as _unpack_index
from .errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .limits import Limits

__all__ = ["listed_chunks", "whole_chunks"]

_SEARCH_PIECE = 1 << 20


def whole_chunks(
    stream: BinaryIO, offset: int, size: int | None, limits: Limits, warnings: list[str]
) -> Iterator[Chunk]:
    """Yield each chunk from byte ``offset`` whose header and payload checksums agree.

    After damage the search goes on at the next sync marker. What was skipped is appended to ``warnings``.
    Spans come from the index where that survived, else they are None. Needs a seekable stream.
    """
    if size is None:
        raise CodecError("recovery needs a file that can seek; write the stream to a file first")
    spans = _surviving_spans(stream, offset, size, limits)
    while offset < size:
        chunk = _chunk_at(stream, offset, size, limits)
        if chunk is None:
            found = _next_sync(stream, offset + 1, size)
            warnings.append(f"bytes {offset:,} to {found:,} are damaged or missing and were skipped")
            offset = found
            continue
        offset += OVERHEAD + len(chunk.payload)
        if chunk.type == END_TYPE:
            return
        if chunk.type != INDEX_TYPE:
            yield Chunk(
                type=chunk.type,
                sequence=chunk.sequence,
                offset=chunk.offset,
                span=spans.get(chunk.sequence),
                decoded_size=chunk.decoded_size,
                payload=chunk.payload,
            )
    warnings.append(f"the file ends at byte {size:,} without its end chunk")


def listed_chunks(
    stream: BinaryIO, entries: list[IndexEntry], size: int, limits: Limits, warnings: list[str]
) -> Iterator[Chunk]:
    """Yield each of the chunks that ``entries`` promise whose payload agrees with its checksum."""
    for entry in entries:
        chunk = _chunk_at(stream, entry.offset, size, limits)
        if chunk is None:
            warnings.append(f"chunk {entry.sequence} ({entry.type}) is damaged or missing and was skipped")
        else:
            yield replace(chunk, span=entry.span)


def _chunk_at(stream: BinaryIO, offset: int, size: int, limits: Limits) -> Chunk | None:
    stream.seek(offset)
    try:
        header = ChunkHeader.from_bytes(stream.read(HEADER_SIZE), offset)
    except CodecError:
        return None
    if header.length > limits.max_chunk_bytes or offset + OVERHEAD + header.length > size:
        return None
    payload = stream.read(header.length)
    stored = int.from_bytes(stream.read(CHECKSUM_SIZE), "little")
    if len(payload) < header.length or stored != checksum64(payload):
        return None
    return Chunk(
        type=header.type,
        sequence=header.sequence,
        offset=offset,
        span=None,
        decoded_size=header.decoded_size,
        payload=payload,
    )


def _next_sync(stream: BinaryIO, offset: int, size: int) -> int:
    """The offset of the next sync marker at or after ``offset``, or ``size``."""
    overlap = len(SYNC) - 1
    while offset < size:
        stream.seek(offset)
        piece = stream.read(_SEARCH_PIECE + overlap)
        found = piece.find(SYNC)
        if found >= 0:
            return offset + found
        offset += _SEARCH_PIECE
    return size


def _surviving_spans(stream: BinaryIO, offset: int, size: int, limits: Limits) -> dict[int, tuple[int, ...]]:
    """Spans by sequence number from the index, if an index chunk is found whole."""
    position = offset
    while position < size:
        chunk = _chunk_at(stream, position, size, limits)
        if chunk is None:
            position = _next_sync(stream, position + 1, size)
            continue
        if chunk.type == INDEX_TYPE:
            entries = _unpack_index(chunk.payload, offset, limits.max_chunks)
            return {entry.sequence: entry.span for entry in entries}
        position += OVERHEAD + len(chunk.payload)
    return {}
