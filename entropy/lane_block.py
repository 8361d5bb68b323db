"""The byte form of a lane block: many independent ANS streams, one header, one checksum.

``docs/entropy.md``, section "Lane block", is normative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_64, xxh3_64_intdigest

from ..formats.errors import ChecksumMismatch, CorruptFile, InvalidParameter, LimitExceeded, UnsupportedVersion
from .bit_io import append_varint, read_varint
from .packed_integers import append_packed, read_packed
from .table_format import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable

__all__ = ["LANE_BLOCK_VERSION", "MAX_LANES", "MAX_LANE_SYMBOLS", "LaneBlock", "LaneClasses"]

LANE_BLOCK_VERSION = 1
MAX_LANES = 1 << 20
MAX_LANE_SYMBOLS = (1 << 31) - 1
MAX_TABLES = 1 << 12
DEFAULT_MAX_SYMBOLS = 1 << 31

_TABLES_INSIDE = 1
_CLASSES_SHARED = 2
_CHECKSUM_BYTES = 8
_WHAT = "lane block"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneClasses:
    """Which table each symbol uses.

    A lane's symbols form groups of ``group_size`` (the last may be shorter). Group ``g`` of lane
    ``l`` uses table ``numbers[offsets[l] + g]``. Lanes that share one row have equal offsets.
    """

    numbers: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    group_size: int

    def at(self, lanes: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.uint16]:
        """The table numbers of symbols ``positions`` of ``lanes``."""
        selected: NDArray[np.uint16] = self.numbers[self.offsets[lanes] + positions // self.group_size]
        return selected

    def runs(self, lane: int, count: int) -> list[tuple[int, int, int]]:
        """(table number, start, stop) of the ``count`` symbols of ``lane``, equal neighbours merged."""
        groups = -(-count // self.group_size)
        row = self.numbers[self.offsets[lane] : self.offsets[lane] + groups]
        starts = np.flatnonzero(np.diff(row, prepend=-1)) if groups else np.zeros(0, np.int64)
        edges = [*(starts * self.group_size).tolist(), count]
        return [(int(row[g]), edges[i], edges[i + 1]) for i, g in enumerate(starts.tolist())]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneBlock:
    """One parsed lane block; nothing in it has been decoded yet.

    ``words`` is uint32, and lane ``l`` owns ``word_offsets[l] .. word_offsets[l + 1] - 1``;
    likewise for ``escapes`` (bytes).
    """

    tables: tuple[FrequencyTable, ...]
    classes: LaneClasses
    symbol_counts: NDArray[np.int64]
    word_offsets: NDArray[np.int64]
    words: NDArray[np.uint32]
    escape_counts: NDArray[np.int64]
    escape_offsets: NDArray[np.int64]
    escapes: memoryview
    tables_inside: bool = True

    @property
    def lanes(self) -> int:
        return int(self.symbol_counts.size)

    @property
    def symbols(self) -> int:
        """The number of symbols in all lanes."""
        return int(self.symbol_counts.sum())

    def to_bytes(self) -> bytes:
        """The block as bytes; see :meth:`from_bytes`."""
        shared = self.lanes > 1 and not self.classes.offsets.any()
        whole = not self.classes.numbers.any()
        head = bytearray([LANE_BLOCK_VERSION, _TABLES_INSIDE * self.tables_inside | _CLASSES_SHARED * shared])
        append_varint(head, self.lanes)
        append_varint(head, len(self.tables))
        append_varint(head, 0 if whole else self.classes.group_size)
        if self.tables_inside:
            for table in self.tables:
                head += table.to_bytes()
        else:
            head += _fingerprint(self.tables)
        append_packed(head, self.symbol_counts)
        if not whole:
            append_packed(head, self.classes.numbers.astype(np.int64))
        append_packed(head, np.diff(self.word_offsets))
        append_packed(head, self.escape_counts)
        if self.escape_counts.any():
            append_packed(head, np.diff(self.escape_offsets))
        head += bytes(-len(head) % 4)
        words = self.words.astype("<u4", copy=False).data.cast("B")
        pieces: list[bytearray | memoryview] = [head, words, self.escapes]
        checksum = xxh3_64()
        for piece in pieces:
            checksum.update(piece)
        return b"".join([*pieces, checksum.intdigest().to_bytes(_CHECKSUM_BYTES, "little")])

    @classmethod
    def from_bytes(
        cls,
        data: bytes | memoryview,
        *,
        tables: Sequence[FrequencyTable] | None = None,
        max_symbols: int = DEFAULT_MAX_SYMBOLS,
    ) -> LaneBlock:
        """Parse a block that fills ``data`` exactly; every size is checked before it is used.

        Args:
            tables: the tables, for a block that was written without them.
            max_symbols: the most symbols the block may promise.

        Raises:
            CorruptFile: the bytes are no lane block; the message names the lane where there is one.
            LimitExceeded: more than ``max_symbols`` symbols.
            UnsupportedVersion: written by a newer version.
            InvalidParameter: ``tables`` are missing, or not those of the encoder.
        """
        body = memoryview(data)[: max(len(data) - _CHECKSUM_BYTES, 0)]
        flags = _check_frame(data, body)
        lanes, position = read_varint(body, 2, f"{_WHAT}, lanes")
        table_count, position = read_varint(body, position, f"{_WHAT}, tables")
        group_size, position = read_varint(body, position, f"{_WHAT}, group size")
        if lanes > MAX_LANES or not 1 <= table_count <= MAX_TABLES or group_size > MAX_LANE_SYMBOLS:
            raise CorruptFile(
                f"{_WHAT}: {lanes} lanes, {table_count} tables, groups of {group_size}; "
                f"at most {MAX_LANES}, {MAX_TABLES} and {MAX_LANE_SYMBOLS} are allowed"
            )
        found, position = _read_tables(body, position, table_count, flags, tables)
        counts, position = read_packed(body, position, lanes, f"{_WHAT}, symbol counts")
        _check_counts(counts, max_symbols)
        classes, position = _read_classes(body, position, counts, group_size, flags, table_count)
        word_counts, position = read_packed(body, position, lanes, f"{_WHAT}, word counts")
        escape_counts, position = read_packed(body, position, lanes, f"{_WHAT}, escape counts")
        escape_sizes = np.zeros(lanes, np.int64)
        if escape_counts.any():
            escape_sizes, position = read_packed(body, position, lanes, f"{_WHAT}, escape sizes")
        padding = -position % 4
        if any(body[position : position + padding]):
            raise CorruptFile(f"{_WHAT}: the padding at byte {position} is not zero")
        position = min(position + padding, len(body))
        word_offsets = _offsets(4 * word_counts, len(body) - position, "words") // 4
        words_end = position + 4 * int(word_offsets[-1])
        escape_offsets = _offsets(escape_sizes, len(body) - words_end, "escapes")
        end = words_end + int(escape_offsets[-1])
        if end != len(body):
            raise CorruptFile(f"{_WHAT}: {len(body) - end} bytes left over at byte {end}")
        return cls(
            tables=found,
            classes=classes,
            symbol_counts=counts,
            word_offsets=word_offsets,
            words=np.frombuffer(body, "<u4", int(word_offsets[-1]), position),
            escape_counts=escape_counts,
            escape_offsets=escape_offsets,
            escapes=body[words_end:end],
            tables_inside=bool(flags & _TABLES_INSIDE),
        )


def _check_frame(data: bytes | memoryview, body: memoryview) -> int:
    """Check version, flags and checksum; return the flags."""
    if len(body) < 2:
        raise CorruptFile(f"{_WHAT}: {len(data)} bytes are too few for a block")
    if body[0] == 0 or body[1] & ~(_TABLES_INSIDE | _CLASSES_SHARED):
        raise CorruptFile(f"{_WHAT}: it starts with bytes 0x{body[0]:02x} 0x{body[1]:02x}, not with a header")
    if body[0] > LANE_BLOCK_VERSION:
        raise UnsupportedVersion(
            f"{_WHAT}: version {body[0]}, this reader knows up to {LANE_BLOCK_VERSION}; use a newer codeckit"
        )
    stored = int.from_bytes(memoryview(data)[len(body) :], "little")
    found = xxh3_64_intdigest(body)
    if stored != found:
        raise ChecksumMismatch(f"{_WHAT}: checksum {stored:016x} stored, {found:016x} found; the bytes are damaged")
    return body[1]


def _read_tables(
    body: memoryview, position: int, count: int, flags: int, given: Sequence[FrequencyTable] | None
) -> tuple[tuple[FrequencyTable, ...], int]:
    if flags & _TABLES_INSIDE:
        found = []
        for _ in range(count):
            table, position = read_table(body, position)
            found.append(table)
        return tuple(found), position
    if given is None:
        raise InvalidParameter(f"{_WHAT}: it was written without its {count} tables; pass tables=")
    tables = tuple(given)
    stored = bytes(body[position : position + _CHECKSUM_BYTES])
    if len(tables) != count or _fingerprint(tables) != stored:
        raise InvalidParameter(f"{_WHAT}: the {len(tables)} tables given are not the {count} of the encoder")
    return tables, position + _CHECKSUM_BYTES


def _fingerprint(tables: Sequence[FrequencyTable]) -> bytes:
    digests = "".join(table.digest for table in tables)
    return int(xxh3_64_intdigest(digests.encode())).to_bytes(_CHECKSUM_BYTES, "little")


def _check_counts(counts: NDArray[np.int64], max_symbols: int) -> None:
    if counts.size and int(counts.max()) > MAX_LANE_SYMBOLS:
        lane = int(np.argmax(counts > MAX_LANE_SYMBOLS))
        raise CorruptFile(f"{_WHAT}: lane {lane} promises {counts[lane]} symbols, above 2**31 - 1")
    if int(counts.sum()) > max_symbols:
        raise LimitExceeded(
            f"{_WHAT}: {int(counts.sum()):,} symbols, above the limit max_symbols={max_symbols:,}; "
            f"raise it if you trust this input"
        )


def _read_classes(
    body: memoryview, position: int, counts: NDArray[np.int64], group_size: int, flags: int, table_count: int
) -> tuple[LaneClasses, int]:
    if group_size == 0:
        return single_class(counts), position
    shared = bool(flags & _CLASSES_SHARED)
    if shared:
        groups = np.array([-(-int(counts.max(initial=0)) // group_size)])
        offsets = np.zeros(counts.size, np.int64)
    else:
        groups = -(-counts // group_size)
        offsets = np.cumsum(groups) - groups
    numbers, position = read_packed(body, position, int(groups.sum()), f"{_WHAT}, classes", "group")
    if numbers.size and int(numbers.max()) >= table_count:
        group = int(np.argmax(numbers >= table_count))
        lane = int(np.searchsorted(offsets, group, side="right")) - 1
        raise CorruptFile(f"{_WHAT}: lane {lane} uses table {numbers[group]} of {table_count}")
    return LaneClasses(numbers=numbers.astype(np.uint16), offsets=offsets, group_size=group_size), position


def single_class(counts: NDArray[np.int64]) -> LaneClasses:
    """The classes of lanes that all use table 0 throughout."""
    return LaneClasses(
        numbers=np.zeros(1, np.uint16),
        offsets=np.zeros(counts.size, np.int64),
        group_size=MAX_LANE_SYMBOLS,
    )


def _offsets(sizes: NDArray[np.int64], available: int, what: str) -> NDArray[np.int64]:
    """Start of each lane's bytes and the end of the last, checked against what is there."""
    # Clipping keeps the running sum of hostile sizes inside 63 bits.
    ends = np.cumsum(np.minimum(sizes, available + 1))
    if sizes.size and int(ends[-1]) > available:
        lane = int(np.argmax(ends > available))
        raise CorruptFile(
            f"{_WHAT}: the {what} of lane {lane} overrun the block by {int(ends[lane]) - available} bytes or more"
        )
    offsets = np.zeros(sizes.size + 1, np.int64)
    offsets[1:] = ends
    return offsets
