"""Vectors in a column of a Parquet or Arrow file, read batch by batch through the optional package pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CorruptFile, ExternalFailure, InvalidParameter, UnsupportedInput
from .vector_source import VectorSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["open_column"]

_BATCH_ROWS = 4096


def open_column(path: Path, column: str | None, *, is_parquet: bool) -> VectorSource:
    """The column called ``column``, or the only one of lists of float32 or float16.

    Raises :class:`ExternalFailure` without pyarrow, :class:`UnsupportedInput` for columns of other types, missing
    vectors and vectors of different lengths.
    """
    try:
        import pyarrow as pa
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise ExternalFailure(f"{path}: Parquet and Arrow files need pyarrow ({error}); pip install pyarrow") from error
    try:
        file: Any = parquet.ParquetFile(path) if is_parquet else ipc.open_file(path)
        schema: Any = file.schema_arrow if is_parquet else file.schema
    except (pa.ArrowException, OSError) as error:
        raise CorruptFile(f"{path}: not a readable {'Parquet' if is_parquet else 'Arrow'} file: {error}") from error
    name = _choose(path, schema, column, pa)
    rows: int | None = None
    if is_parquet:
        rows = int(file.metadata.num_rows)
        batches = (batch.column(0) for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[name]))
    else:
        batches = (file.get_batch(number).column(name) for number in range(file.num_record_batches))
    field = schema.field(name).type
    element = "F16" if field.value_type == pa.float16() else "F32"
    rows_read = _matrices(batches, f"{path}: column {name!r}", pa)
    first = next(rows_read, None)
    if first is None:
        if not pa.types.is_fixed_size_list(field):
            raise UnsupportedInput(f"{path}: column {name!r} is empty, so its number of dimensions is unknown")
        first = np.empty((0, field.list_size), np.float32)

    def stream() -> Iterator[NDArray[np.float32]]:
        yield first
        for matrix in rows_read:
            if matrix.shape[1] != first.shape[1]:
                raise UnsupportedInput(f"{path}: vectors of {matrix.shape[1]} and of {first.shape[1]} dimensions")
            yield matrix

    return VectorSource(dimensions=first.shape[1], element=element, rows=rows, name=str(path), stream=stream())


def _choose(path: Path, schema: Any, column: str | None, pa: Any) -> str:
    def fits(kind: Any) -> bool:
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return bool(lists) and kind.value_type in (pa.float32(), pa.float16())

    fitting = [field.name for field in schema if fits(field.type)]
    if column is not None:
        if column not in fitting:
            raise InvalidParameter(f"{path}: {column!r} is no column of float32 or float16 lists; those are {fitting}")
        return column
    if len(fitting) != 1:
        raise UnsupportedInput(
            f"{path}: expected one column of float32 or float16 lists, found {fitting}; use FILE#COLUMN"
        )
    return str(fitting[0])


def _matrices(columns: Iterator[Any], name: str, pa: Any) -> Iterator[NDArray[np.float32]]:
    for column in columns:
        if len(column) == 0:
            continue
        if column.null_count:
            raise UnsupportedInput(f"{name}: {column.null_count} rows have no vector; drop them first")
        flat = column.flatten()
        width, rest = divmod(len(flat), len(column))
        if pa.types.is_fixed_size_list(column.type):
            lengths = np.full(len(column), width)
        else:
            lengths = np.diff(column.offsets.to_numpy())
        if rest or (lengths != width).any():
            raise UnsupportedInput(f"{name}: its vectors differ in length ({lengths.min()} to {lengths.max()})")
        if flat.null_count:
            raise UnsupportedInput(f"{name}: a vector has missing elements")
        yield np.ascontiguousarray(flat.to_numpy(zero_copy_only=False).reshape(len(column), width), np.float32)
