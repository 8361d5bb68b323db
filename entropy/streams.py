"""Whole arrays of symbols as one self-delimiting ANS stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formats.errors import CorruptFile, InvalidParameter
from .stream_decoding import AnsDecoder
from .stream_encoding import AnsEncoder
from .stream_format import read_stream
from .symbol_arguments import only_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from .frequency_table import FrequencyTable

__all__ = ["decode_symbols", "encode_symbols", "read_symbols"]


def encode_symbols(values: ArrayLike, tables: Sequence[FrequencyTable], table_index: ArrayLike | None = None) -> bytes:
    """Encode an array of integers as one self-delimiting ANS stream.

    Args:
        values: integers of any shape; those outside their table's range escape.
        tables: one or more tables.
        table_index: which table each value uses, broadcast against ``values``; ``None`` when there
            is just one table.

    Returns:
        Bytes for :func:`decode_symbols`; the shape and ``table_index`` are not stored.
    """
    encoder = AnsEncoder()
    if table_index is None:
        encoder.encode(values, only_table(tables))
    else:
        encoder.encode_indexed(values, tables, table_index)
    return encoder.finish()


def decode_symbols(
    data: bytes | memoryview,
    tables: Sequence[FrequencyTable],
    table_index: ArrayLike | None = None,
    *,
    count: int | None = None,
) -> NDArray[np.int64]:
    """Decode what :func:`encode_symbols` wrote; ``data`` must hold nothing else.

    Args:
        table_index: as given to the encoder, in the shape of the values.
        count: the number of values, instead of ``table_index`` when there is just one table.

    Returns:
        int64 in the shape of ``table_index``, or [count].

    Raises:
        CorruptFile: the data do not decode, or are not used up exactly.
    """
    values, end = read_symbols(data, 0, tables, table_index, count=count)
    if end != len(data):
        raise CorruptFile(f"symbol stream: {len(data) - end} bytes left over at byte {end}")
    return values


def read_symbols(
    data: bytes | memoryview,
    position: int,
    tables: Sequence[FrequencyTable],
    table_index: ArrayLike | None = None,
    *,
    count: int | None = None,
) -> tuple[NDArray[np.int64], int]:
    """Like :func:`decode_symbols` at ``position`` of longer data; also returns where it ended."""
    _, _, end = read_stream(data, position)
    decoder = AnsDecoder(memoryview(data)[position:end])
    if table_index is not None:
        values = decoder.decode_indexed(tables, table_index)
    elif count is not None:
        values = decoder.decode(only_table(tables), count)
    else:
        raise InvalidParameter("decoding needs table_index or count")
    decoder.finish()
    return values, end
