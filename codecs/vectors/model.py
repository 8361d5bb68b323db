"""What all blocks of a file share: projection, levels and frequency tables, as fitted and as the bytes of one chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile
from .projection import Projection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...entropy import FrequencyTable
    from .file_header import FileHeader

    Floats = NDArray[np.float32]

__all__ = ["FileModel", "read_model", "write_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileModel:
    """The shared part of a file.

    ``offset`` and ``step``, float32 [stored], place the levels of uniform formats; ``table_numbers`` int64 [stored]
    names the table of each stored dimension.
    """

    projection: Projection | None = None
    offset: Floats | None = None
    step: Floats | None = None
    tables: tuple[FrequencyTable, ...] = ()
    table_numbers: NDArray[np.int64] | None = None


def write_model(model: FileModel, header: FileHeader) -> bytes:
    """The payload of the chunk ``VMOD``."""
    pieces = []
    if model.projection is not None:
        pieces.append(model.projection.mean.astype("<f4").tobytes())
        pieces.append(model.projection.components.astype("<f4" if header.wide else "<f2").tobytes())
    if model.offset is not None and model.step is not None:
        pieces += [model.offset.astype("<f4").tobytes(), model.step.astype("<f4").tobytes()]
    if model.table_numbers is not None:
        pieces.append(model.table_numbers.astype(np.uint8).tobytes())
        pieces += [table.to_bytes() for table in model.tables]
    return b"".join(pieces)


def read_model(payload: bytes, header: FileHeader) -> FileModel:
    """The inverse of :func:`write_model`; raises :class:`CorruptFile`."""
    position = 0

    def array(count: int, dtype: str) -> NDArray[Any]:
        nonlocal position
        size = count * np.dtype(dtype).itemsize
        if position + size > len(payload):
            raise CorruptFile(f"VMOD chunk: {len(payload):,} bytes end before what the header promises")
        found = np.frombuffer(payload, dtype, count, position)
        position += size
        return found

    def floats(count: int, dtype: str = "<f4") -> Floats:
        found = array(count, dtype).astype(np.float32)
        if not np.isfinite(found).all():
            raise CorruptFile("VMOD chunk: a value is not finite")
        return found

    projection = offset = step = numbers = None
    if header.projection != "none":
        mean = floats(header.dimensions)
        components = floats(header.stored * header.dimensions, "<f4" if header.wide else "<f2")
        projection = Projection(mean, components.reshape(header.stored, header.dimensions))
    if header.uniform:
        offset, step = floats(header.stored), floats(header.stored)
    tables = []
    if header.tables:
        numbers = array(header.stored, "|u1").astype(np.int64)
        if int(numbers.max()) >= header.tables:
            raise CorruptFile(f"VMOD chunk: a dimension uses table {int(numbers.max())} of {header.tables}")
        for _ in range(header.tables):
            table, position = read_table(payload, position)
            if table.minimum != 0 or table.maximum > 255 or table.escape:
                raise CorruptFile("VMOD chunk: a table is not one of bytes")
            tables.append(table)
    if position != len(payload):
        raise CorruptFile(f"VMOD chunk: {len(payload) - position:,} bytes left over")
    return FileModel(projection=projection, offset=offset, step=step, tables=tuple(tables), table_numbers=numbers)
