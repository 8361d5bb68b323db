"""More vectors for a file that is there: projection, levels and tables stay those it was written with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...formats.atomic_file import AtomicFile
from ...formats.errors import InvalidParameter, UnsupportedInput
from ...formats.header import Header
from ...formats.reader import ContainerReader
from ...formats.writer import ContainerWriter
from .decoding import BlockIndex
from .encoding import BlockWriter

if TYPE_CHECKING:
    import os

    from ...formats.vector_source import VectorSource
    from ..run_context import RunContext

__all__ = ["append_rows"]


def append_rows(path: str | os.PathLike[str], source: VectorSource, codec: str, context: RunContext) -> int:
    """Add the rows of ``source`` after those of the file at ``path``; returns how many there are then.

    The file is copied and replaced when all is written and on the disk: a crash or an error leaves it as it was. Its
    last block stays as it is even where it is not full.

    Raises :class:`CorruptFile` and its kinds, :class:`InvalidParameter` for files of other codecs,
    :class:`UnsupportedInput` for other dimensions and values that are not finite.
    """
    with ContainerReader(path, limits=context.limits) as reader, AtomicFile(path, overwrite=True) as output:
        if reader.header.codec != codec:
            raise InvalidParameter(
                f"{path} is of codec {reader.header.codec!r}; only files of {codec} take more vectors"
            )
        index = BlockIndex(reader)
        header = index.reader.header
        if source.dimensions != header.dimensions:
            raise UnsupportedInput(
                f"{source.name} has {source.dimensions} dimensions, the vectors of {path} have {header.dimensions}"
            )
        rows = None if header.rows is None or source.rows is None else header.rows + source.rows
        writer = ContainerWriter(output, limits=context.limits, compact=True)
        renewed = replace(header, rows=rows)
        writer.write_header(Header(codec=codec, bitstream=reader.header.bitstream, parameters=renewed.as_json()))
        for chunk in reader.chunks():
            writer.write_chunk(chunk.type, chunk.payload, span=chunk.span or (), decoded_size=chunk.decoded_size)
        blocks = BlockWriter(writer, renewed, index.model, context)
        blocks.write(source, first_row=index.rows)
        writer.finish()
        output.commit()
    if blocks.saturated:
        context.warning(f"{blocks.saturated:,} values are beyond the largest {header.dtype} and were set to it")
    return index.rows + blocks.rows
