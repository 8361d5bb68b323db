"""Reading blocks: the whole file in order, a range of rows, or any rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import CorruptFile
from .block_payload import decode_block
from .encoding import MODEL, ROWS
from .file_header import FileHeader
from .model import FileModel, read_model
from .ordered_threads import in_order, thread_count
from .quantiser import Quantiser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.chunk import IndexEntry
    from ...formats.reader import ContainerReader
    from ...formats.vector_sinks import VectorSink
    from ..run_context import RunContext

    Floats = NDArray[np.float32]

__all__ = ["BlockIndex", "BlockReader", "decode_all", "decode_range"]


class BlockReader:
    """Decodes payloads of one file."""

    def __init__(self, header: FileHeader, model: FileModel) -> None:
        self.header = header
        self._model = model
        self._quantiser = Quantiser(header, model)

    def decode(self, payload: bytes, rows: int | None, out: Floats | None = None) -> Floats:
        """The rows of a chunk, float32 [n, dimensions]; raises :class:`CorruptFile`."""
        block = decode_block(payload, rows, self.header, self._model)
        values = np.empty((len(block.codes), self.header.dimensions), np.float32) if out is None else out
        self._quantiser.values(block.codes, block.norms, values)
        return values


class BlockIndex:
    """Where the rows of a seekable file are, and the model they share; raises :class:`CorruptFile`."""

    def __init__(self, source: ContainerReader) -> None:
        header = FileHeader.from_header(source.header)
        entries = source.index()
        models = [entry for entry in entries if entry.type == MODEL]
        if len(models) != 1 or entries[0] != models[0]:
            raise CorruptFile(f"the file has {len(models)} VMOD chunks, expected one before all others")
        self.blocks: list[IndexEntry] = [entry for entry in entries if entry.type == ROWS]
        stop = 0
        for entry in self.blocks:
            if len(entry.span) != 2 or entry.span[0] != stop or not 0 < entry.span[1] - stop <= header.block_rows:
                raise CorruptFile(f"chunk {entry.sequence}: rows {entry.span} do not follow row {stop}")
            stop = entry.span[1]
        if header.rows not in (None, stop):
            raise CorruptFile(f"the header promises {header.rows} rows, the blocks hold {stop}")
        self.rows = stop
        self.starts = np.array([entry.span[0] for entry in self.blocks], np.int64)
        self.model = read_model(source.read(models[0]), header)
        self.reader = BlockReader(header, self.model)
        self._source = source

    def blocks_of(self, start: int, stop: int) -> list[IndexEntry]:
        """The blocks that hold any of the rows ``start`` to ``stop``."""
        return [entry for entry in self.blocks if entry.span[0] < stop and entry.span[1] > start]

    def read(self, entry: IndexEntry) -> bytes:
        """The payload of a block."""
        return self._source.read(entry)

    def decoded(self, entries: list[IndexEntry], threads: int) -> Iterator[tuple[IndexEntry, Floats]]:
        """Each block and its rows, float32 [n, dimensions], in order."""
        payloads = ((entry, self.read(entry)) for entry in entries)

        def work(item: tuple[IndexEntry, bytes]) -> tuple[IndexEntry, Floats]:
            entry, payload = item
            return entry, self.reader.decode(payload, entry.span[1] - entry.span[0])

        yield from in_order(work, payloads, threads)


def decode_all(source: ContainerReader, sink: VectorSink, context: RunContext) -> int:
    """Decode every row, checking the file on the way; returns their number. What is whole where it is recovered."""
    header = FileHeader.from_header(source.header)
    rows = header.rows
    if rows is None and source.seekable and not source.recover:
        rows = BlockIndex(source).rows
    sink.start(header.dimensions, None if source.recover else rows)
    reader: BlockReader | None = None
    done = 0

    def places() -> Iterator[tuple[BlockReader, bytes, Floats]]:
        nonlocal reader
        start = 0
        for chunk in source.chunks():
            if chunk.type == MODEL and reader is None and start == 0:
                reader = BlockReader(header, read_model(chunk.payload, header))
                continue
            if not chunk.type[0].isupper():
                continue
            if chunk.type != ROWS or reader is None:
                raise CorruptFile(f"chunk {chunk.sequence} is {chunk.type}, expected {MODEL} and then only {ROWS}")
            count = chunk.decoded_size // (4 * header.dimensions)
            if chunk.decoded_size != 4 * header.dimensions * count or not 1 <= count <= header.block_rows:
                raise CorruptFile(f"chunk {chunk.sequence}: {chunk.decoded_size:,} bytes are no rows of a block")
            if not source.recover and chunk.span not in (None, (start, start + count)):
                raise CorruptFile(f"chunk {chunk.sequence}: rows {chunk.span} do not follow row {start}")
            if rows is not None and start + count > rows and not source.recover:
                raise CorruptFile(f"chunk {chunk.sequence}: more rows than the {rows} of the header")
            yield reader, chunk.payload, sink.reserve(start, start + count)
            start += count
        if not source.recover and rows not in (None, start):
            raise CorruptFile(f"the header promises {rows} rows, the blocks hold {start}")

    def work(item: tuple[BlockReader, bytes, Floats]) -> Floats:
        block_reader, payload, out = item
        return block_reader.decode(payload, len(out), out)

    for block in in_order(work, places(), thread_count(context.threads)):
        sink.write(block)
        done += len(block)
        context.report("decode", done, rows, unit="vectors")
    if reader is None:
        raise CorruptFile(f"the file has no {MODEL} chunk")
    return done


def decode_range(source: ContainerReader, sink: VectorSink, start: int, stop: int, context: RunContext) -> None:
    """Decode the rows ``start`` to ``stop``, reading only their blocks."""
    index = BlockIndex(source)
    sink.start(index.reader.header.dimensions, stop - start)
    for entry, rows in index.decoded(index.blocks_of(start, stop), thread_count(context.threads)):
        first, last = max(start, entry.span[0]), min(stop, entry.span[1])
        sink.write(rows[first - entry.span[0] : last - entry.span[0]])
        context.report("decode", last - start, stop - start, unit="vectors")
