"""Decoders of symbol streams: an ANS stack and a range-coder queue, both on constriction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import CorruptFile, InvalidParameter
from .coder_models import coder_model, row_family, row_parts, row_weights
from .escapes import table_bounds, values_of_codes
from .stream_format import read_stream
from .symbol_arguments import frequency_rows, positions_by_table, table_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from .frequency_table import FrequencyTable

__all__ = ["AnsDecoder", "RangeDecoder", "StreamDecoder"]


class StreamDecoder(ABC):
    """Turns slots back into values; subclasses own the coder. Malformed data raise ``CorruptFile``."""

    _coder: Any

    def __init__(self, data: bytes | memoryview) -> None:
        words, self._escapes, end = read_stream(data, 0)
        if end != len(data):
            raise CorruptFile(f"symbol stream: {len(data) - end} bytes left over at byte {end}")
        self._used_escapes = 0
        self._open(words)

    def decode(self, table: FrequencyTable, count: int) -> NDArray[np.int64]:
        """Decode ``count`` values under ``table``: int64 [count]."""
        if count < 0:
            raise InvalidParameter(f"count must not be negative, got {count}")
        if table.slots == 1 or count == 0:
            return np.full(count, table.minimum, np.int64)
        values = self._pop(coder_model(table), count).astype(np.int64) + table.minimum
        if table.escape:
            self._restore_escapes(values, table)
        return values

    def decode_indexed(self, tables: Sequence[FrequencyTable], table_index: ArrayLike) -> NDArray[np.int64]:
        """Decode one value per element of ``table_index``: int64 of the same shape."""
        index = table_numbers(table_index, len(tables))
        values = np.empty(index.size, np.int64)
        for number, positions in positions_by_table(index.ravel()):
            values[positions] = self.decode(tables[number], len(positions))
        return values.reshape(index.shape)

    def decode_rows(self, frequencies: ArrayLike) -> NDArray[np.int64]:
        """Decode one slot number per row of ``frequencies`` [count, slots]: int64 [count]."""
        rows = frequency_rows(frequencies)
        if rows.shape[1] == 1 or len(rows) == 0:
            return np.zeros(len(rows), np.int64)
        parts = [self._pop(row_family(), row_weights(rows[part])) for part in row_parts(rows)]
        return np.concatenate(parts).astype(np.int64)

    def finish(self) -> None:
        """Check that everything in the stream has been decoded."""
        if self._used_escapes != self._escapes.size:
            raise CorruptFile(f"symbol stream: {self._escapes.size - self._used_escapes} escapes left over")
        if not self._exhausted():
            raise CorruptFile("symbol stream: compressed words left over after the last symbol")

    def _restore_escapes(self, values: NDArray[np.int64], table: FrequencyTable) -> None:
        positions = np.flatnonzero(values == table.maximum + 1)
        if positions.size == 0:
            return
        stop = self._used_escapes + positions.size
        if stop > self._escapes.size:
            raise CorruptFile(f"symbol stream: {stop} escapes decoded, only {self._escapes.size} are stored")
        codes = self._escapes[self._used_escapes : stop]
        values[positions] = values_of_codes(codes, *table_bounds(table))
        self._used_escapes = stop

    def _pop(self, model: Any, amount: int | NDArray[np.float64]) -> NDArray[np.int32]:
        try:
            slots: NDArray[np.int32] = self._coder.decode(model, amount)
        except AssertionError as error:
            # The only way in which constriction reports data that no encoder could have written.
            raise CorruptFile("symbol stream: the words fit no sequence of symbols") from error
        return slots

    @abstractmethod
    def _open(self, words: NDArray[np.uint32]) -> None: ...

    @abstractmethod
    def _exhausted(self) -> bool: ...


class AnsDecoder(StreamDecoder):
    """Decodes what :class:`AnsEncoder` wrote.

    Args:
        data: one whole stream.

    Raises:
        CorruptFile: ``data`` is not a stream.
    """

    def _open(self, words: NDArray[np.uint32]) -> None:
        from constriction import stream

        if words.size and words[-1] == 0:
            raise CorruptFile("symbol stream: an ANS stream cannot end in a zero word")
        self._coder = stream.stack.AnsCoder(words)

    def _exhausted(self) -> bool:
        return bool(self._coder.is_empty())


class RangeDecoder(StreamDecoder):
    """Decodes what :class:`RangeEncoder` wrote.

    A range decoder reads two words ahead, so one or two surplus words at the very end cannot be
    told from its own; checksums of the surrounding format cover that.

    Args:
        data: one whole stream.

    Raises:
        CorruptFile: ``data`` is not a stream.
    """

    def _open(self, words: NDArray[np.uint32]) -> None:
        from constriction import stream

        self._coder = stream.queue.RangeDecoder(words)

    def _exhausted(self) -> bool:
        return bool(self._coder.maybe_exhausted())
