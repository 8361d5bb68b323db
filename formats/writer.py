"""Writing a container: strictly forward, so that a pipe works as output."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from .checksums import Buffer, ContentHash, slices
from .chunk import (
    END_TYPE,
    INDEX_TYPE,
    MAX_SPAN,
    OVERHEAD,
    ChunkHeader,
    IndexEntry,
    check_type,
    pack_footer,
    pack_index,
    payload_checksum,
)
from .compact_form import MOST_CHUNKS, MOST_PAYLOAD, HeldChunk, pack
from .errors import LimitExceeded
from .limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .header import Header

__all__ = ["ByteStream", "ContainerWriter"]


class ByteStream(Protocol):
    """Anything bytes can be written to."""

    def write(self, data: Buffer, /) -> object: ...


class ContainerWriter:
    """Writes header, chunks, index, end and footer, in that order, without ever seeking back.

    With ``compact`` what is written is held back while it is small; a file that stays so gets the compact form, which
    costs some fifty bytes instead of three hundred (:mod:`.compact_form`).

    ::

        writer = ContainerWriter(stream)
        writer.write_header(Header(codec="store", bitstream=1))
        writer.write_chunk("DATA", payload, span=(0, len(payload)), decoded_size=len(payload))
        writer.finish()
    """

    def __init__(self, stream: ByteStream, *, limits: Limits = DEFAULT_LIMITS, compact: bool = False) -> None:
        self._stream = stream
        self._held: list[HeldChunk] | None = [] if compact else None
        self._held_bytes = 0
        self._limits = limits
        self._hash = ContentHash()
        self._entries: list[IndexEntry] = []
        self._header: Header | None = None
        self._finished = False
        self.bytes_written = 0

    @property
    def header(self) -> Header | None:
        """The header, once it has been written."""
        return self._header

    def write_header(self, header: Header) -> None:
        """Write the header; exactly once, before any chunk."""
        if self._header is not None:
            raise ValueError("the header has been written already")
        head = header.to_bytes()  # in either form: what cannot be written is refused now
        self._header = replace(header, parameters=deepcopy(header.parameters))
        if self._held is None:
            self._write(head)

    def continue_after(self, header: Header, entries: list[IndexEntry], content: Iterable[bytes]) -> None:
        """Take over ``content`` that an earlier writer produced: its header and chunks, no index or end."""
        if self._header is not None:
            raise ValueError("the header has been written already")
        self._held = None
        self._header = header
        self._entries = list(entries)
        for piece in content:
            self._write(piece)

    def write_chunk(self, kind: str, payload: Buffer, *, span: tuple[int, ...] = (), decoded_size: int = 0) -> None:
        """Write one chunk of four-letter type ``kind``; upper-case first letter means critical.

        ``span`` (at most eight non-negative integers) goes into the index and tells what the chunk holds;
        ``decoded_size`` is the number of bytes it decodes to, 0 where that has no meaning.
        """
        check_type(kind)
        if len(span) > MAX_SPAN:
            raise ValueError(f"a span holds at most {MAX_SPAN} integers, got {len(span)}")
        if not 0 <= decoded_size < 1 << 63:
            raise ValueError(f"a decoded size of {decoded_size} bytes does not fit 63 bits")
        if self._held is not None:
            self._check_writable(kind, memoryview(payload).nbytes, len(self._held))
            self._held_bytes += memoryview(payload).nbytes
            if self._held_bytes <= MOST_PAYLOAD and len(self._held) < MOST_CHUNKS:
                chunk = HeldChunk(type=kind, payload=bytes(payload), span=tuple(span), decoded_size=decoded_size)
                self._held.append(chunk)
                return
            self._release(self._held)
        self._write_entry(kind, payload, span, decoded_size)

    def _release(self, held: list[HeldChunk]) -> None:
        """Write what was held back in the long form, and hold no more."""
        self._held = None
        if self._header is not None:
            self._write(self._header.to_bytes())
        for chunk in held:
            self._write_entry(chunk.type, chunk.payload, chunk.span, chunk.decoded_size)

    def _write_entry(self, kind: str, payload: Buffer, span: tuple[int, ...], decoded_size: int) -> None:
        offset = self.bytes_written
        self._write_framed(kind, payload, decoded_size)
        length = memoryview(payload).nbytes
        sequence = len(self._entries)
        self._entries.append(IndexEntry(type=kind, sequence=sequence, offset=offset, length=length, span=span))

    def finish(self) -> int:
        """Write index, end and footer; return the size of the file in bytes."""
        if self._held is not None:
            self._check_writable(INDEX_TYPE, 0, len(self._held))
            compact = None if self._header is None else pack(self._header, self._held)
            if compact is not None:
                self._finished = True
                self._write(compact)
                return self.bytes_written
            self._release(self._held)
        index_offset = self.bytes_written
        self._write_framed(INDEX_TYPE, pack_index(self._entries), 0)
        digest = self._hash.digest()
        self._write_framed(END_TYPE, digest, 0, sequence=len(self._entries) + 1)
        self._write(pack_footer(index_offset))
        self._finished = True
        return self.bytes_written

    def _write_framed(self, kind: str, payload: Buffer, decoded_size: int, *, sequence: int | None = None) -> None:
        number = len(self._entries) if sequence is None else sequence
        length = memoryview(payload).nbytes
        self._check_writable(kind, length, number)
        header = ChunkHeader(type=kind, sequence=number, length=length, decoded_size=decoded_size)
        start = self.bytes_written
        self._write(header.to_bytes())
        for piece in slices(payload):
            self._write(piece)
        self._write(payload_checksum(payload))
        if self.bytes_written - start != length + OVERHEAD:
            raise RuntimeError("chunk framing and OVERHEAD disagree")

    def _check_writable(self, kind: str, length: int, number: int) -> None:
        if self._header is None:
            raise ValueError("write the header before the first chunk")
        if self._finished:
            raise ValueError("the file is finished already")
        if length > self._limits.max_chunk_bytes:
            raise LimitExceeded(
                f"chunk {kind} of {length:,} bytes is above max_chunk_bytes="
                f"{self._limits.max_chunk_bytes:,}; write several chunks"
            )
        self._limits.check("max_chunks", number + 1, "the file")

    def _write(self, data: Buffer) -> None:
        self._hash.update(data)
        self._stream.write(data)
        self.bytes_written += memoryview(data).nbytes
