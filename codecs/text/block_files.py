"""Files of blocks that were coded apart from one another: ranges of their bytes, or all in order on several cores."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...formats.byte_streams import ByteSink
    from ...formats.reader import ContainerReader
    from ..protocol import Selection
    from ..run_context import RunContext

__all__ = ["BlockKind", "BlockView", "write_blocks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockKind:
    """What the blocks of a file are: their chunk type, the most bytes one may hold, and how one is decoded.

    ``decode`` makes the bytes of a block from its payload, their number, and the block's place for error messages.
    """

    chunk_type: str
    most_bytes: int
    decode: Callable[[bytes, int, str], bytes]

    def decoded(self, payload: bytes, size: int, where: str) -> bytes:
        """The ``size`` bytes of a block; raises :class:`CorruptFile` for a size that no block has."""
        if not 0 < size <= self.most_bytes:
            raise CorruptFile(f"{where}: promises {size:,} bytes, a block holds 1 to {self.most_bytes:,}")
        return self.decode(payload, size, where)


class BlockView:
    """Random access to an encoded text: ``size_bytes`` and ``read(start, stop)``; only blocks touched are decoded."""

    def __init__(self, source: ContainerReader, kind: BlockKind) -> None:
        self._source = source
        self._kind = kind
        self._entries = [entry for entry in source.index() if entry.type == kind.chunk_type]
        position = 0
        for entry in self._entries:
            if len(entry.span) != 2 or entry.span[0] != position or entry.span[1] <= position:
                raise CorruptFile(f"index entry {entry.sequence}: span {entry.span} does not follow byte {position:,}")
            position = entry.span[1]
        self._size = position

    @property
    def size_bytes(self) -> int:
        """Length of the whole text."""
        return self._size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of the half-open range ``start`` to ``stop`` (None: the end).

        Raises:
            InvalidParameter: the range is not within the text.
        """
        end = self._size if stop is None else stop
        if not 0 <= start <= end <= self._size:
            raise InvalidParameter(f"range {start}:{end} is not within 0:{self._size}")
        return b"".join(self.pieces(start, end))

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``stop``, one piece per block touched."""
        for entry in self._entries:
            first, last = entry.span
            if last <= start or first >= stop:
                continue
            chunk = self._source.read_chunk(entry)
            where = f"block at byte {entry.offset}"
            if chunk.decoded_size != last - first:
                raise CorruptFile(f"{where}: {chunk.decoded_size:,} bytes promised, the index says {last - first:,}")
            data = self._kind.decoded(chunk.payload, chunk.decoded_size, where)
            yield data[max(0, start - first) : stop - first]

    def token_bytes(self) -> Iterator[bytes]:
        """The payload of each block as it is stored: the tokens, for readers that want no text."""
        for entry in self._entries:
            yield bytes(self._source.read_chunk(entry).payload)


def write_blocks(
    source: ContainerReader,
    sink: ByteSink,
    kind: BlockKind,
    *,
    context: RunContext,
    selection: Selection | None,
    threads: int,
) -> None:
    """Write the file's bytes to ``sink``, up to ``threads`` blocks at once, or those of the selected ``range``."""
    if selection is not None and selection.ranges:
        view = BlockView(source, kind)
        for piece in view.pieces(*selection.range_of("range", view.size_bytes)):
            context.check_cancelled()
            sink.write(piece)
        return
    position = 0
    for data in _decoded_in_order(source, kind, threads):
        sink.write(data)
        position += len(data)
        source.limits.check("max_output_bytes", position, "the decoded text")
        context.report("decode", position, None, unit="bytes")


def _decoded_in_order(source: ContainerReader, kind: BlockKind, threads: int) -> Iterator[bytes]:
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(max_workers=threads) as executor:
        for chunk in source.chunks():
            if chunk.type != kind.chunk_type:
                continue
            where = f"block at byte {chunk.offset}"
            pending.append(executor.submit(kind.decoded, chunk.payload, chunk.decoded_size, where))
            if len(pending) >= threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
