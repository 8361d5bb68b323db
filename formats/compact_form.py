"""The compact form: header and chunks of a small file behind one short directory.

It is another spelling of a container that costs some fifty bytes where the long form costs three hundred. A reader
expands it into the long form in memory and goes on with that, so nothing else has to know.
"""

from __future__ import annotations

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
    from collections.abc import Sequence

    from .limits import Limits

__all__ = ["COMPACT_MAGIC", "LARGEST_COMPACT_FILE", "MOST_CHUNKS", "MOST_PAYLOAD", "HeldChunk", "expand", "pack"]

COMPACT_MAGIC = b"\x89CKc"
MOST_PAYLOAD = 1 << 20
"""Bytes of all payloads together, at most."""
MOST_CHUNKS = 256
_MOST_DIRECTORY = 1 << 18
_VERSION = 1
_DIGEST_BYTES = 32
_LONGEST_VARINT = 9
LARGEST_COMPACT_FILE = len(COMPACT_MAGIC) + 1 + _LONGEST_VARINT + _MOST_DIRECTORY + CHECKSUM_SIZE + MOST_PAYLOAD


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


def expand(data: bytes, limits: Limits) -> bytes:
    """The long form of the compact file ``data``.

    The directory is checked here; payloads keep the checksums they were stored with, so that whoever reads the long
    form finds what is damaged. A file that ends inside its payloads becomes a long form that ends there.

    Raises :class:`CorruptFile` and its kinds, :class:`UnsupportedVersion`, :class:`LimitExceeded`.
    """
    directory, payloads = _checked_directory(data)
    header, position = _unpack_header(directory, limits)
    content = bytearray(header.to_bytes())
    entries: list[IndexEntry] = []
    count, position = read_varint(directory, position, "the directory")
    if count > MOST_CHUNKS:
        raise CorruptFile(f"the directory: {count:,} chunks, a compact file has at most {MOST_CHUNKS}")
    for number in range(count):
        entry, decoded_size, position = _unpack_entry(directory, position, number, len(content))
        entries.append(entry)
        checksum = _piece(directory, position, CHECKSUM_SIZE, f"the directory's entry {number}")
        position += CHECKSUM_SIZE
        payload = data[payloads : payloads + entry.length]
        payloads += entry.length
        head = ChunkHeader(type=entry.type, sequence=number, length=entry.length, decoded_size=decoded_size)
        content += head.to_bytes() + payload
        if len(payload) < entry.length:
            return bytes(content)
        content += checksum
    if position != len(directory):
        raise CorruptFile(f"the directory: {len(directory) - position} bytes are left after its last entry")
    if payloads != len(data):
        raise CorruptFile(f"bytes follow the end of the file at byte {payloads}")
    return bytes(content) + _ending(entries, bytes(content))


def _checked_directory(data: bytes) -> tuple[bytes, int]:
    """The directory, and where the payloads begin."""
    start = len(COMPACT_MAGIC)
    if len(data) <= start + _LONGEST_VARINT + 1:
        raise TruncatedFile(f"the file ends inside its directory, after {len(data)} bytes")
    version = data[start]
    if version != _VERSION:
        raise UnsupportedVersion(
            f"the file has version {version} of the compact form, this reader knows {_VERSION}; upgrade codeckit"
        )
    length, start = read_varint(data, start + 1, "the directory's length")
    if length > _MOST_DIRECTORY:
        raise CorruptFile(f"a directory of {length:,} bytes, a compact file has at most {_MOST_DIRECTORY:,}")
    end = start + length
    if end + CHECKSUM_SIZE > len(data):
        raise TruncatedFile(f"the file ends inside its directory, after {len(data)} bytes")
    stored = int.from_bytes(data[end : end + CHECKSUM_SIZE], "little")
    if stored != checksum64(data[:end]):
        raise ChecksumMismatch("the directory's checksum disagrees with its bytes; the file is damaged")
    return data[start:end], end + CHECKSUM_SIZE


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


def _unpack_entry(directory: bytes, position: int, number: int, offset: int) -> tuple[IndexEntry, int, int]:
    """Entry ``number``, whose chunk begins at byte ``offset`` of the long form; its decoded size; where it ends."""
    what = f"the directory's entry {number}"
    name = _piece(directory, position, 4, what).decode("ascii", "replace")
    try:
        check_type(name)
    except ValueError as error:
        raise CorruptFile(f"{what}: {error}") from error
    length, position = read_varint(directory, position + 4, what)
    if length > MOST_PAYLOAD:
        raise CorruptFile(f"{what}: {length:,} bytes, a compact file has at most {MOST_PAYLOAD:,}")
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


def _ending(entries: list[IndexEntry], content: bytes) -> bytes:
    """Index, end and footer of the long form whose header and chunks are ``content``."""
    index = _framed(INDEX_TYPE, pack_index(entries), len(entries))
    hashed = ContentHash()
    hashed.update(content)
    hashed.update(index)
    end = _framed(END_TYPE, hashed.digest(), len(entries) + 1)
    return index + end + pack_footer(len(content))


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
