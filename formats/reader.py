"""Reading a container: sequentially with every check, or single chunks through the index."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from .checksums import ContentHash, checksum64
from .chunk import (
    CHECKSUM_SIZE,
    END_PAYLOAD_SIZE,
    END_TYPE,
    FOOTER_SIZE,
    HEADER_SIZE,
    INDEX_TYPE,
    OVERHEAD,
    Chunk,
    ChunkHeader,
    IndexEntry,
    is_critical,
    unpack_footer,
    unpack_index,
)
from .compact_form import COMPACT_MAGIC, ExpandedFile
from .errors import (
    ChecksumMismatch,
    CorruptFile,
    InvalidParameter,
    TruncatedFile,
    UnsupportedVersion,
)
from .header import read_header
from .limits import DEFAULT_LIMITS, Limits
from .recovery import listed_chunks, whole_chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["ContainerReader", "ContainerSource"]

ContainerSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

_READ_PIECE = 1 << 20


class ContainerReader:
    """A container opened for reading.

    Opening checks the header only; a compact file that can seek is read whole. :meth:`chunks` walks the whole file and
    checks everything; :meth:`index` and :meth:`read` give random access on a seekable source. With ``recover=True`` a
    truncated or damaged file yields the chunks that are whole, and ``warnings`` says what was lost.

    Raises :class:`CorruptFile` and its kinds, :class:`UnsupportedVersion`, :class:`LimitExceeded`.
    """

    def __init__(self, source: ContainerSource, *, limits: Limits = DEFAULT_LIMITS, recover: bool = False) -> None:
        self._source, self._owned = _open(source)
        self._stream = self._source
        self.limits = limits
        self.recover = recover
        self.warnings: list[str] = []
        self._verified = False
        self._scanned = False
        self._index: list[IndexEntry] | None = None
        self._expanded: ExpandedFile | None = None
        self._known_types: frozenset[str] | None = None
        try:
            self.seekable = self._stream.seekable()
            if self.seekable:
                self._stream.seek(0)
            start = self._read_up_to(len(COMPACT_MAGIC))
            if start == COMPACT_MAGIC:
                start = self._expand(start)
            self._size = self._stream.seek(0, io.SEEK_END) if self.seekable else None
            if self.seekable:
                self._stream.seek(len(start))
            self.header, self._header_bytes = read_header(start, self._read_up_to, limits)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file if this reader opened it."""
        if self._owned:
            self._source.close()

    @property
    def size_bytes(self) -> int | None:
        """Size of the file; None where the source cannot seek and has not been read to its end."""
        if self._size is None or self._expanded is None:
            return self._size
        return self._expanded.bytes_read

    @property
    def verified(self) -> bool:
        """Whether the whole file has been read and every checksum agreed."""
        return self._verified

    def require_bitstream(self, *, newest: int) -> None:
        """Raise :class:`UnsupportedVersion` when the file's bitstream is newer than ``newest``."""
        if self.header.bitstream > newest:
            raise UnsupportedVersion(
                f"the file has {self.header.codec} bitstream version {self.header.bitstream}, this reader knows "
                f"up to {newest}; upgrade codeckit"
            )

    def expect_types(self, known: Collection[str]) -> None:
        """From now on raise :class:`UnsupportedVersion` at a chunk of a critical type that is not in ``known``."""
        self._known_types = frozenset(known)
        self._check_types(self._index or [])

    def require_types(self, known: Collection[str]) -> None:
        """Raise :class:`UnsupportedVersion` when the index holds a critical chunk type not in ``known``."""
        self.expect_types(known)
        self.index()

    def chunks(self) -> Iterator[Chunk]:
        """Yield every codec chunk in file order; after the last one the whole file has been verified.

        A source that cannot seek can be walked once.
        """
        if self.seekable:
            self._stream.seek(len(self._header_bytes))
        elif self._scanned:
            raise InvalidParameter("a source that cannot seek can be read only once; write it to a file first")
        self._scanned = True
        if self.recover:
            yield from self._recovered()
            return
        content = ContentHash()
        content.update(self._header_bytes)
        offset = len(self._header_bytes)
        seen: list[IndexEntry] = []
        index: list[IndexEntry] | None = None
        index_offset = 0
        while True:
            header, head = self._read_chunk_header(offset)
            if header.sequence != len(seen) + (index is not None):
                raise CorruptFile(f"chunk at byte {offset}: sequence number {header.sequence} out of order")
            payload = self._read_payload(header, offset)
            if header.type == END_TYPE:
                if payload != content.digest():
                    raise ChecksumMismatch(f"end chunk at byte {offset}: SHA-256 of the content disagrees")
                break
            content.update(head)
            content.update(payload)
            content.update(checksum64(payload).to_bytes(CHECKSUM_SIZE, "little"))
            if header.type == INDEX_TYPE:
                if index is not None:
                    raise CorruptFile(f"chunk at byte {offset}: a second index")
                first = len(self._header_bytes)
                index = unpack_index(payload, first, self.limits.max_chunks)
                index_offset = offset
                if [replace(entry, span=()) for entry in index] != seen:
                    raise CorruptFile(f"index at byte {offset}: it does not match the chunks before it")
            else:
                if index is not None:
                    raise CorruptFile(f"chunk at byte {offset}: it follows the index")
                self.limits.check("max_chunks", len(seen) + 1, "the file")
                self._check_type(header.type, header.sequence)
                span = self._span(header.sequence)
                seen.append(
                    IndexEntry(
                        type=header.type,
                        sequence=header.sequence,
                        offset=offset,
                        length=header.length,
                        span=(),
                    )
                )
                yield Chunk(
                    type=header.type,
                    sequence=header.sequence,
                    offset=offset,
                    span=span,
                    decoded_size=header.decoded_size,
                    payload=payload,
                )
            offset += header.length + OVERHEAD
            if self.seekable:  # the consumer may have read elsewhere in between
                self._stream.seek(offset)
        self._check_end(offset + OVERHEAD + END_PAYLOAD_SIZE, index_offset)
        if index is None:
            self.warnings.append("the file has no index; it was scanned")
        self._size = offset + OVERHEAD + END_PAYLOAD_SIZE + FOOTER_SIZE
        self._verified = True

    def verify(self) -> None:
        """Read whatever has not been checked yet and raise unless the whole file is sound."""
        if self._verified or self.recover:
            return
        for _ in self.chunks():
            pass

    def index(self) -> list[IndexEntry]:
        """What the file holds, without reading payloads; needs a seekable source."""
        if self._index is None:
            self._require_seekable()
            index = self._recovered_index() if self.recover else self._load_index()
            self._check_types(index)
            self._index = index
        return self._index

    def read(self, entry: IndexEntry) -> bytes:
        """The payload of one chunk of :meth:`index`, checked against its checksum."""
        return self.read_chunk(entry).payload

    def read_chunk(self, entry: IndexEntry) -> Chunk:
        """One chunk of :meth:`index`, checked against its checksum."""
        self._require_seekable()
        self._stream.seek(entry.offset)
        header, _ = self._read_chunk_header(entry.offset)
        if (header.type, header.sequence, header.length) != (
            entry.type,
            entry.sequence,
            entry.length,
        ):
            raise CorruptFile(f"chunk at byte {entry.offset}: it is not what the index says")
        payload = self._read_payload(header, entry.offset)
        return Chunk(
            type=header.type,
            sequence=header.sequence,
            offset=entry.offset,
            span=entry.span,
            decoded_size=header.decoded_size,
            payload=payload,
        )

    def content_pieces(self) -> Iterator[bytes]:
        """Header and chunks exactly as they stand in the file, for a writer that appends to it."""
        entries = self.index()
        last = entries[-1] if entries else None
        end = last.offset + last.length + OVERHEAD if last else len(self._header_bytes)
        self._stream.seek(0)
        for start in range(0, end, _READ_PIECE):
            yield self._read_exactly(min(_READ_PIECE, end - start), start, "content")

    def _expand(self, start: bytes) -> bytes:
        """From now on read the long form of the compact file that begins with ``start``; all at once if it can seek."""
        self._expanded = ExpandedFile(start, self._source.read, self.limits, recover=self.recover)
        self._stream = io.BytesIO(self._expanded.read()) if self.seekable else cast("BinaryIO", self._expanded)
        if self.seekable and not self._expanded.whole and not self.recover:
            raise TruncatedFile(
                f"the file ends after {self._expanded.bytes_read:,} bytes, inside its chunks; recovery gives those "
                "that are whole"
            )
        return self._read_up_to(len(start))

    def _load_index(self) -> list[IndexEntry]:
        if self._size is None:
            raise InvalidParameter("the source cannot seek")
        footer_offset = self._size - FOOTER_SIZE
        if footer_offset < len(self._header_bytes) + OVERHEAD + END_PAYLOAD_SIZE:
            raise TruncatedFile(f"the file ends after {self._size} bytes, before its end chunk")
        self._stream.seek(footer_offset)
        index_offset = unpack_footer(self._read_up_to(FOOTER_SIZE))
        if index_offset == 0:
            self.warnings.append("the file has no index; it was scanned")
            return self._scan()
        self._stream.seek(index_offset)
        header, _ = self._read_chunk_header(index_offset)
        if header.type != INDEX_TYPE:
            raise CorruptFile(f"chunk at byte {index_offset}: the footer says it is the index")
        payload = self._read_payload(header, index_offset)
        first = len(self._header_bytes)
        entries = unpack_index(payload, first, self.limits.max_chunks)
        covered = entries[-1].offset + entries[-1].length + OVERHEAD if entries else first
        if covered != index_offset:
            raise CorruptFile(f"index: it covers {covered:,} bytes, the chunks end at {index_offset:,}")
        end_offset = index_offset + OVERHEAD + header.length
        end, _ = self._read_chunk_header(end_offset)
        if end.type != END_TYPE:
            raise CorruptFile(f"chunk at byte {end_offset}: the end chunk should be here")
        self._read_payload(end, end_offset)
        self._check_end(end_offset + OVERHEAD + END_PAYLOAD_SIZE, index_offset)
        return entries

    def _scan(self) -> list[IndexEntry]:
        """Rebuild the index from the chunk headers."""
        entries: list[IndexEntry] = []
        offset = len(self._header_bytes)
        while True:
            self._stream.seek(offset)
            header, _ = self._read_chunk_header(offset)
            if header.type == END_TYPE:
                self._read_payload(header, offset)
                self._check_end(offset + OVERHEAD + END_PAYLOAD_SIZE, 0)
                return entries
            self.limits.check("max_chunks", len(entries) + 1, "the file")
            if header.sequence != len(entries):
                raise CorruptFile(f"chunk at byte {offset}: sequence number {header.sequence} out of order")
            entries.append(
                IndexEntry(
                    type=header.type,
                    sequence=header.sequence,
                    offset=offset,
                    length=header.length,
                    span=(),
                )
            )
            offset += header.length + OVERHEAD

    def _recovered(self) -> Iterator[Chunk]:
        if self._expanded is not None and self.seekable:
            yield from listed_chunks(self._stream, self._expanded.entries, self._size or 0, self.limits, self.warnings)
            return
        first = len(self._header_bytes)
        yield from whole_chunks(self._stream, first, self._size, self.limits, self.warnings)

    def _recovered_index(self) -> list[IndexEntry]:
        return [
            IndexEntry(
                type=chunk.type,
                sequence=chunk.sequence,
                offset=chunk.offset,
                length=len(chunk.payload),
                span=chunk.span or (),
            )
            for chunk in self.chunks()
        ]

    def _span(self, sequence: int) -> tuple[int, ...] | None:
        """What the index says of a chunk, where it can be read ahead."""
        if not self.seekable:
            return None
        position = self._stream.tell()
        index = self.index()
        self._stream.seek(position)
        return index[sequence].span if sequence < len(index) else None

    def _check_end(self, footer_offset: int, index_offset: int) -> None:
        """Read the footer, which must be the last thing in the file."""
        footer = self._read_up_to(FOOTER_SIZE)
        if unpack_footer(footer) != index_offset:
            raise CorruptFile(f"footer at byte {footer_offset}: it points elsewhere than the index")
        if self._read_up_to(1):
            raise CorruptFile(f"bytes follow the end of the file at byte {footer_offset + FOOTER_SIZE}")

    def _read_chunk_header(self, offset: int) -> tuple[ChunkHeader, bytes]:
        head = self._read_up_to(HEADER_SIZE)
        if len(head) < HEADER_SIZE:
            raise TruncatedFile(f"the file ends at byte {offset + len(head)}, inside or before a chunk header")
        header = ChunkHeader.from_bytes(head, offset)
        self.limits.check("max_chunk_bytes", header.length, f"chunk {header.type} at byte {offset}")
        self.limits.check("max_output_bytes", header.decoded_size, f"chunk {header.type} at byte {offset}")
        if header.type == END_TYPE and header.length != END_PAYLOAD_SIZE:
            raise CorruptFile(f"end chunk at byte {offset}: {header.length} bytes long")
        return header, head

    def _read_payload(self, header: ChunkHeader, offset: int) -> bytes:
        what = f"chunk {header.type} at byte {offset}"
        if self._expanded is not None:
            what = f"chunk {header.type}, number {header.sequence}"  # offsets are those of the long form
        if self._size is not None and offset + OVERHEAD + header.length > self._size:
            raise TruncatedFile(f"{what}: {header.length:,} bytes promised, the file ends before them")
        payload = self._read_exactly(header.length, offset, what)
        stored = self._read_exactly(CHECKSUM_SIZE, offset, what)
        if int.from_bytes(stored, "little") != checksum64(payload):
            raise ChecksumMismatch(f"{what}: the payload checksum disagrees; the file is damaged")
        return payload

    def _read_exactly(self, count: int, offset: int, what: str) -> bytes:
        data = self._read_up_to(count)
        if len(data) < count:
            raise TruncatedFile(f"{what}: the file ends after {len(data):,} of {count:,} bytes (from byte {offset})")
        return data

    def _read_up_to(self, count: int) -> bytes:
        """Read ``count`` bytes or to the end, in pieces: a pipe may give less, and a promise is no allocation."""
        first = self._stream.read(min(count, _READ_PIECE))
        if len(first) == count or not first:
            return first
        pieces = [first]
        got = len(first)
        while got < count:
            piece = self._stream.read(min(count - got, _READ_PIECE))
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)

    def _check_types(self, index: list[IndexEntry]) -> None:
        for entry in index:
            self._check_type(entry.type, entry.sequence)

    def _check_type(self, kind: str, sequence: int) -> None:
        if self._known_types is not None and is_critical(kind) and kind not in self._known_types:
            raise UnsupportedVersion(
                f"chunk {sequence} has the critical type {kind} unknown to this reader; upgrade codeckit"
            )

    def _require_seekable(self) -> None:
        if not self.seekable:
            raise InvalidParameter("random access needs a source that can seek; write it to a file first")


def _open(source: ContainerSource) -> tuple[BinaryIO, bool]:
    """A readable stream and whether we have to close it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), True
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            raise CorruptFile(f"{path} is a directory, not a codeckit file")
        try:
            return path.open("rb"), True
        except OSError as error:
            raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    if hasattr(source, "read") and hasattr(source, "seekable"):
        return source, False
    raise InvalidParameter(f"expected a path, bytes or a binary file object, got {type(source).__name__}")
