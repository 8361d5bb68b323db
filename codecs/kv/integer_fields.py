"""Arrays of small integers as one self-delimiting field: size, table from their own counts, ANS stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.frequency_table import FrequencyTable
from ...entropy.streams import encode_symbols, read_symbols
from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["append_integers", "read_integers"]

_REACH = 2000


def append_integers(out: bytearray, values: NDArray[Any]) -> None:
    """Append integers of any shape; values far from their median escape."""
    flat = values.astype(np.int64).ravel()
    append_varint(out, flat.size)
    if flat.size == 0:
        return
    centre = int(np.median(flat))
    near = flat[np.abs(flat - centre) <= _REACH]
    low, high = int(near.min()), int(near.max())
    counts = np.bincount(near - low, minlength=high - low + 1)
    escapes = flat.size - near.size
    table = FrequencyTable.from_counts(
        np.append(counts, escapes) if escapes else counts, minimum=low, escape=escapes > 0
    )
    out += table.to_bytes()
    out += encode_symbols(flat, [table])


def read_integers(data: bytes, position: int, count: int, what: str) -> tuple[NDArray[np.int64], int]:
    """Read exactly ``count`` integers; raises :class:`CorruptFile` naming ``what``."""
    stored, position = read_varint(data, position, what)
    if stored != count:
        raise CorruptFile(f"{what}: {stored} values stored, {count} expected")
    if count == 0:
        return np.zeros(0, np.int64), position
    table, position = read_table(data, position)
    return read_symbols(data, position, [table], count=count)
