"""Chunks: how each piece of a file is framed, and what the index and the end say."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .checksums import Buffer, checksum32, checksum64
from .errors import ChecksumMismatch, CorruptFile, TruncatedFile
from .varint import append_varint, read_varint

__all__ = [
    "CHECKSUM_SIZE",
    "END_PAYLOAD_SIZE",
    "END_TYPE",
    "FOOTER_SIZE",
    "HEADER_SIZE",
    "INDEX_TYPE",
    "OVERHEAD",
    "SYNC",
    "Chunk",
    "ChunkHeader",
    "IndexEntry",
    "check_type",
    "is_critical",
    "pack_footer",
    "pack_index",
    "payload_checksum",
    "unpack_footer",
    "unpack_index",
]

SYNC = b"\xc5CK\n"
INDEX_TYPE = "INDX"
END_TYPE = "ENDC"
RESERVED_TYPES = frozenset({INDEX_TYPE, END_TYPE})

_HEADER = struct.Struct("<4s4sIQQ")
_HEADER_CHECKSUM = struct.Struct("<I")
_PAYLOAD_CHECKSUM = struct.Struct("<Q")
_FOOTER = struct.Struct("<Q4s")
_FOOTER_MAGIC = b"CKT\x1a"
_TYPE = re.compile(r"[A-Za-z]{4}")

HEADER_SIZE = _HEADER.size + _HEADER_CHECKSUM.size
CHECKSUM_SIZE = _PAYLOAD_CHECKSUM.size
OVERHEAD = HEADER_SIZE + CHECKSUM_SIZE
END_PAYLOAD_SIZE = 32
FOOTER_SIZE = _FOOTER.size + _HEADER_CHECKSUM.size
MAX_SPAN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkHeader:
    """The 32 bytes before a payload."""

    type: str
    sequence: int
    length: int
    decoded_size: int

    def to_bytes(self) -> bytes:
        head = _HEADER.pack(SYNC, self.type.encode("ascii"), self.sequence, self.length, self.decoded_size)
        return head + _HEADER_CHECKSUM.pack(checksum32(head))

    @classmethod
    def from_bytes(cls, data: bytes, offset: int) -> ChunkHeader:
        """Parse the header that stands at byte ``offset`` of the file."""
        if len(data) < HEADER_SIZE:
            raise TruncatedFile(f"the file ends inside the chunk header at byte {offset}")
        (stored,) = _HEADER_CHECKSUM.unpack(data[_HEADER.size :])
        if stored != checksum32(data[: _HEADER.size]):
            raise ChecksumMismatch(f"chunk header at byte {offset}: checksum mismatch; the file is damaged")
        sync, kind, sequence, length, decoded_size = _HEADER.unpack(data[: _HEADER.size])
        if sync != SYNC:
            raise CorruptFile(f"chunk header at byte {offset}: sync marker missing")
        try:
            name = kind.decode("ascii")
        except UnicodeDecodeError as error:
            raise CorruptFile(f"chunk header at byte {offset}: type {kind!r} is not ASCII") from error
        if not _TYPE.fullmatch(name):
            raise CorruptFile(f"chunk header at byte {offset}: type {name!r} is not four letters")
        return cls(type=name, sequence=sequence, length=length, decoded_size=decoded_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk with its payload, verified against its checksums."""

    type: str
    sequence: int
    offset: int
    span: tuple[int, ...] | None
    decoded_size: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """Where a chunk lies and what it holds; ``span`` is defined by the codec (frames, tokens, tiles)."""

    type: str
    sequence: int
    offset: int
    length: int
    span: tuple[int, ...]


def check_type(name: str) -> None:
    """Raise ``ValueError`` unless ``name`` is a chunk type that a codec may write."""
    if not _TYPE.fullmatch(name) or name in RESERVED_TYPES:
        raise ValueError(f"chunk type {name!r} must be four letters other than {sorted(RESERVED_TYPES)}")


def is_critical(name: str) -> bool:
    """A type whose first letter is upper case must be understood by the reader."""
    return name[0].isupper()


def payload_checksum(payload: Buffer) -> bytes:
    return _PAYLOAD_CHECKSUM.pack(checksum64(payload))


def pack_index(entries: list[IndexEntry]) -> bytes:
    """Serialise the index; offsets are not stored because chunks follow one another without gaps."""
    out = bytearray()
    append_varint(out, len(entries))
    for entry in entries:
        out += entry.type.encode("ascii")
        append_varint(out, entry.length)
        append_varint(out, len(entry.span))
        for value in entry.span:
            append_varint(out, value)
    return bytes(out)


def unpack_index(payload: bytes, first_offset: int, max_chunks: int) -> list[IndexEntry]:
    """Parse an index whose first chunk begins at byte ``first_offset`` of the file."""
    count, position = read_varint(payload, 0, "index")
    if count > max_chunks or count * 6 > len(payload):
        raise CorruptFile(f"index: {count:,} chunks promised in {len(payload):,} bytes")
    entries = []
    offset = first_offset
    for sequence in range(count):
        name = payload[position : position + 4].decode("ascii", "replace")
        if not _TYPE.fullmatch(name):
            raise CorruptFile(f"index entry {sequence}: type {name!r} is not four letters")
        length, position = read_varint(payload, position + 4, f"index entry {sequence}")
        values, position = read_varint(payload, position, f"index entry {sequence}")
        if values > MAX_SPAN:
            raise CorruptFile(f"index entry {sequence}: a span of {values} values, at most {MAX_SPAN}")
        span = []
        for _ in range(values):
            value, position = read_varint(payload, position, f"index entry {sequence}")
            span.append(value)
        entries.append(IndexEntry(type=name, sequence=sequence, offset=offset, length=length, span=tuple(span)))
        offset += length + OVERHEAD
    if position != len(payload):
        raise CorruptFile(f"index: {len(payload) - position} bytes left after its last entry")
    return entries


def pack_footer(index_offset: int) -> bytes:
    head = _FOOTER.pack(index_offset, _FOOTER_MAGIC)
    return head + _HEADER_CHECKSUM.pack(checksum32(head))


def unpack_footer(data: bytes) -> int:
    """The byte offset of the index chunk, 0 where the file has none."""
    if len(data) < FOOTER_SIZE:
        raise TruncatedFile("the file ends inside its footer")
    (stored,) = _HEADER_CHECKSUM.unpack(data[_FOOTER.size :])
    offset, magic = _FOOTER.unpack(data[: _FOOTER.size])
    if stored != checksum32(data[: _FOOTER.size]) or magic != _FOOTER_MAGIC:
        raise TruncatedFile("the footer is missing or damaged: the file is cut off or overwritten at its end")
    return int(offset)
