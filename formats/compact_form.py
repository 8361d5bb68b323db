"""The compact form: header and chunks of a small file behind one short directory.

It is another spelling of a container that costs some fifty bytes where the long form costs three hundred. A reader
expands it into the long form and goes on with that; only recovery goes by the directory itself.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .canonical_json import dump, load
from .checksums import ContentHash, checksum64
from .chunk import (
    CHECKSUM_SIZE,
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
from .errors import ChecksumMismatch, CorruptFile, InvalidParameter, TruncatedFile, UnsupportedVersion
from .header import Header
from .varint import append_varint, read_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .limits import Limits

__all__ = ["COMPACT_MAGIC", "MOST_CHUNKS", "MOST_PAYLOAD", "ExpandedFile", "HeldChunk", "pack"]

COMPACT_MAGIC = b"\x89CKc"
MOST_PAYLOAD = 1 << 20
"""Bytes of all payloads together, at most."""
MOST_CHUNKS = 256
_MOST_DIRECTORY = 1 << 18
_VERSION = 1
_DIGEST_BYTES = 32
_LONGEST_LENGTH = 9  # of a varint
_READ_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldChunk:
    """A chunk as it was given to the writer."""

    type: str
    payload: bytes
    span: tuple[int, ...]
    decoded_size: int


def pack(header: Header, chunks: Sequence[HeldChunk]) -> bytes | None:
    """The compact form of a file; None where it is too large for it."""
    directory = _pack_header(header)
    append_varint(directory, len(chunks))
    for chunk in chunks:
        directory += chunk.type.encode("ascii")
        append_varint(directory, len(chunk.payload))
        append_varint(directory, chunk.decoded_size)
        append_varint(directory, len(chunk.span))
        for value in chunk.span:
            append_varint(directory, value)
        directory += payload_checksum(chunk.payload)
    payload_bytes = sum(len(chunk.payload) for chunk in chunks)
    if len(chunks) > MOST_CHUNKS or payload_bytes > MOST_PAYLOAD or len(directory) > _MOST_DIRECTORY:
        return None
    head = bytearray(COMPACT_MAGIC)
    head.append(_VERSION)
    append_varint(head, len(directory))
    head += directory
    head += payload_checksum(head)
    return b"".join([bytes(head), *(chunk.payload for chunk in chunks)])


class ExpandedFile(io.RawIOBase):
    """The long form of a compact file, made while the compact one is read: a binary file that cannot seek.

    Args:
        start: what has been read of the compact file, at least its magic number.
        read: gives up to ``n`` more bytes, none at the end.
        limits: what the header may ask for.
        recover: pass over bytes that follow the end.

    The directory is checked before anything is given; payloads keep the checksums they were stored with, so that
    whoever reads the long form finds what is damaged. A file that ends inside its payloads becomes a long form that
    ends there. ``bytes_read`` counts what was read of the compact file, ``start`` included, ``entries`` is what the
    directory says of the chunks, and ``whole`` whether everything it promises has come.

    Raises :class:`CorruptFile` and its kinds, :class:`UnsupportedVersion`, :class:`LimitExceeded` while it is read.
    """

    def __init__(self, start: bytes, read: Callable[[int], bytes], limits: Limits, *, recover: bool = False) -> None:
        self._source = read
        self._limits = limits
        self._recover = recover
        self.bytes_read = len(start)
        self.entries: list[IndexEntry] = []
        self.whole = False
        self._pieces = self._long_form(start)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes, none at the end; a negative ``count`` reads everything."""
        if count < 0:
            everything, self._rest = b"".join([self._rest, *self._pieces]), b""
            return everything
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece

    def _long_form(self, start: bytes) -> Iterator[bytes]:
        directory = self._checked_directory(start)
        header, position = _unpack_header(directory, self._limits)
        content = ContentHash()
        first = header.to_bytes()
        yield _hashed(content, first)
        entries = _unpack_entries(directory, position, len(first))
        self.entries = [entry for entry, _, _ in entries]
        for entry, decoded_size, checksum in entries:
            head = ChunkHeader(type=entry.type, sequence=entry.sequence, length=entry.length, decoded_size=decoded_size)
            yield _hashed(content, head.to_bytes())
            missing = entry.length
            while missing and (piece := self._read(missing)):
                missing -= len(piece)
                yield _hashed(content, piece)
            if missing:
                return
            yield _hashed(content, checksum)
        if self._read(1) and not self._recover:
            raise CorruptFile(f"bytes follow the end of the file at byte {self.bytes_read - 1}")
        self.whole = True
        index_offset = len(first) + sum(entry.length + OVERHEAD for entry in self.entries)
        index = _framed(INDEX_TYPE, pack_index(self.entries), len(entries))
        yield _hashed(content, index)
        yield _framed(END_TYPE, content.digest(), len(entries) + 1)
        yield pack_footer(index_offset)

    def _checked_directory(self, start: bytes) -> bytes:
        """The directory, read and checked."""
        head = bytearray(start)
        version = self._read_exactly(1, head)[0]
        if version != _VERSION:
            raise UnsupportedVersion(
                f"the file has version {version} of the compact form, this reader knows {_VERSION}; upgrade codeckit"
            )
        first = len(head)
        while self._read_exactly(1, head)[0] & 0x80 and len(head) - first < _LONGEST_LENGTH:
            pass
        length, _ = read_varint(bytes(head), first, "the directory's length")
        if length > _MOST_DIRECTORY:
            raise CorruptFile(f"a directory of {length:,} bytes, a compact file has at most {_MOST_DIRECTORY:,}")
        directory = self._read_exactly(length, head)
        expected = checksum64(bytes(head))
        if int.from_bytes(self._read_exactly(CHECKSUM_SIZE, head), "little") != expected:
            raise ChecksumMismatch("the directory's checksum disagrees with its bytes; the file is damaged")
        return directory

    def _read_exactly(self, count: int, head: bytearray) -> bytes:
        """The next ``count`` bytes, also appended to ``head``."""
        before = len(head)
        while missing := count - (len(head) - before):
            piece = self._read(missing)
            if not piece:
                raise TruncatedFile(f"the file ends inside its directory, after {self.bytes_read} bytes")
            head += piece
        return bytes(head[before:])

    def _read(self, count: int) -> bytes:
        piece = self._source(min(count, _READ_PIECE))
        self.bytes_read += len(piece)
        return piece


def _pack_header(header: Header) -> bytearray:
    out = bytearray()
    _append_bytes(out, header.codec.encode("ascii"))
    append_varint(out, header.bitstream)
    _append_bytes(out, dump(header.parameters) if header.parameters else b"")
    _append_bytes(out, (header.profile or "").encode("utf-8"))
    append_varint(out, len(header.weights))
    for digest in header.weights:
        out += bytes.fromhex(digest)
    return out


def _unpack_header(directory: bytes, limits: Limits) -> tuple[Header, int]:
    codec, position = _read_bytes(directory, 0, "the codec's id")
    bitstream, position = read_varint(directory, position, "the bitstream version")
    text, position = _read_bytes(directory, position, "the parameters")
    limits.check("max_header_bytes", len(text), "the header")
    profile, position = _read_bytes(directory, position, "the profile")
    count, position = read_varint(directory, position, "the number of weights")
    if count * _DIGEST_BYTES > len(directory) - position:
        raise CorruptFile(f"the directory: {count:,} digests promised in {len(directory) - position:,} bytes")
    weights = []
    for _ in range(count):
        weights.append(directory[position : position + _DIGEST_BYTES].hex())
        position += _DIGEST_BYTES
    parameters = load(text) if text else {}
    if text and not parameters:
        raise CorruptFile("the directory: parameters that are empty take no bytes")
    try:
        header = Header(
            codec=codec.decode("ascii"),
            bitstream=bitstream,
            parameters=parameters,
            profile=profile.decode("utf-8") if profile else None,
            weights=tuple(weights),
        )
        header.to_bytes()  # what the long form could not hold, such as nesting that is too deep
    except (InvalidParameter, UnicodeDecodeError) as error:
        raise CorruptFile(f"the directory: {error}") from error
    return header, position


def _unpack_entries(directory: bytes, position: int, offset: int) -> list[tuple[IndexEntry, int, bytes]]:
    """Entry, decoded size and checksum of every chunk; the first begins at byte ``offset`` of the long form."""
    count, position = read_varint(directory, position, "the directory")
    if count > MOST_CHUNKS:
        raise CorruptFile(f"the directory: {count:,} chunks, a compact file has at most {MOST_CHUNKS}")
    entries = []
    payload_bytes = 0
    for number in range(count):
        entry, decoded_size, position = _unpack_entry(directory, position, number, offset)
        checksum = _piece(directory, position, CHECKSUM_SIZE, f"the directory's entry {number}")
        position += CHECKSUM_SIZE
        offset += entry.length + OVERHEAD
        payload_bytes += entry.length
        entries.append((entry, decoded_size, checksum))
    if payload_bytes > MOST_PAYLOAD:
        raise CorruptFile(f"the directory: payloads of {payload_bytes:,} bytes, at most {MOST_PAYLOAD:,}")
    if position != len(directory):
        raise CorruptFile(f"the directory: {len(directory) - position} bytes are left after its last entry")
    return entries


def _unpack_entry(directory: bytes, position: int, number: int, offset: int) -> tuple[IndexEntry, int, int]:
    """Entry ``number``, whose chunk begins at byte ``offset`` of the long form; its decoded size; where it ends."""
    what = f"the directory's entry {number}"
    name = _piece(directory, position, 4, what).decode("ascii", "replace")
    try:
        check_type(name)
    except ValueError as error:
        raise CorruptFile(f"{what}: {error}") from error
    length, position = read_varint(directory, position + 4, what)
    decoded_size, position = read_varint(directory, position, what)
    values, position = read_varint(directory, position, what)
    if values > MAX_SPAN:
        raise CorruptFile(f"{what}: a span of {values} values, at most {MAX_SPAN}")
    span = []
    for _ in range(values):
        value, position = read_varint(directory, position, what)
        span.append(value)
    entry = IndexEntry(type=name, sequence=number, offset=offset, length=length, span=tuple(span))
    return entry, decoded_size, position


def _hashed(content: ContentHash, piece: bytes) -> bytes:
    content.update(piece)
    return piece


def _framed(kind: str, payload: bytes, sequence: int) -> bytes:
    head = ChunkHeader(type=kind, sequence=sequence, length=len(payload), decoded_size=0)
    framed = head.to_bytes() + payload + payload_checksum(payload)
    if len(framed) != len(payload) + OVERHEAD:
        raise RuntimeError("chunk framing and OVERHEAD disagree")
    return framed


def _append_bytes(out: bytearray, data: bytes) -> None:
    append_varint(out, len(data))
    out += data


def _read_bytes(data: bytes, position: int, what: str) -> tuple[bytes, int]:
    length, position = read_varint(data, position, what)
    return _piece(data, position, length, what), position + length


def _piece(data: bytes, position: int, length: int, what: str) -> bytes:
    if length > len(data) - position:
        raise CorruptFile(f"{what}: {length:,} bytes promised, the directory has {max(0, len(data) - position):,}")
    return data[position : position + length]
