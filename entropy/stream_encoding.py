"""Encoders of symbol streams: an ANS stack and a range-coder queue, both on constriction.

A table with a single slot codes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import InvalidParameter
from .coder_models import coder_model, row_family, row_parts, row_weights
from .escapes import split_escapes
from .stream_format import write_stream
from .symbol_arguments import as_integers, frequency_rows, positions_by_table, table_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from .frequency_table import FrequencyTable

__all__ = ["AnsEncoder", "RangeEncoder", "StreamEncoder"]


class _Batch:
    """Symbols with one constriction model, or with one row of weights each."""

    def __init__(self, slots: NDArray[np.int32], model: Any, frequencies: NDArray[Any] | None = None) -> None:
        self.slots = slots
        self.model = model
        self.frequencies = frequencies


class StreamEncoder(ABC):
    """Turns values into batches of slots and keeps the escapes; subclasses own the coder.

    Decoders must repeat the same calls in the same order.
    """

    def __init__(self) -> None:
        self._escapes: list[NDArray[np.int64]] = []
        self._finished = False

    def encode(self, values: ArrayLike, table: FrequencyTable) -> None:
        """Encode integers of any shape, in C order, all under ``table``."""
        self._encode_run(as_integers(values, "values").ravel(), table)

    def encode_indexed(self, values: ArrayLike, tables: Sequence[FrequencyTable], table_index: ArrayLike) -> None:
        """Encode ``values`` where element ``i`` uses ``tables[table_index[i]]``.

        ``table_index`` broadcasts against ``values``. Elements are coded grouped by table.
        """
        array = as_integers(values, "values")
        index = table_numbers(table_index, len(tables))
        try:
            index = np.broadcast_to(index, array.shape)
        except ValueError as error:
            raise InvalidParameter(
                f"table_index {index.shape} does not broadcast to the values {array.shape}"
            ) from error
        flat = array.ravel()
        for number, positions in positions_by_table(index.ravel()):
            self._encode_run(flat[positions], tables[number])

    def encode_rows(self, slots: ArrayLike, frequencies: ArrayLike) -> None:
        """Encode slot numbers [count], each under its own row of ``frequencies`` [count, slots].

        Every row holds integers >= 1 that sum to the same ``2**k``, 8 <= k <= 24.
        """
        flat = as_integers(slots, "slots").ravel()
        rows = frequency_rows(frequencies)
        if len(flat) != len(rows):
            raise InvalidParameter(f"{len(flat)} slots but {len(rows)} rows of frequencies")
        if len(flat) == 0:
            return
        if int(flat.min()) < 0 or int(flat.max()) >= rows.shape[1]:
            raise InvalidParameter(f"slots must lie in 0..{rows.shape[1] - 1}, the row's length")
        if rows.shape[1] > 1:
            self._push(_Batch(flat.astype(np.int32), row_family(), rows))

    def finish(self) -> bytes:
        """The stream as bytes; the encoder must not be used afterwards."""
        self._check_open()
        self._finished = True
        codes = np.concatenate(self._escapes) if self._escapes else np.zeros(0, np.int64)
        return write_stream(self._words(), codes)

    def _encode_run(self, values: NDArray[np.int64], table: FrequencyTable) -> None:
        self._check_open()
        if values.size == 0:
            return
        slots, codes = split_escapes(values, table)
        if codes.size:
            self._escapes.append(codes)
        if table.slots > 1:
            self._push(_Batch(slots, coder_model(table)))

    def _check_open(self) -> None:
        if self._finished:
            raise InvalidParameter("this encoder is finished; start a new one")

    @abstractmethod
    def _push(self, batch: _Batch) -> None: ...

    @abstractmethod
    def _words(self) -> NDArray[np.uint32]: ...


class AnsEncoder(StreamEncoder):
    """The encoder of an ANS stream: fastest, everything is coded when :meth:`finish` is called.

    Decode with :class:`AnsDecoder`, same calls in the same order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[_Batch] = []

    def _push(self, batch: _Batch) -> None:
        self._batches.append(batch)

    def _words(self) -> NDArray[np.uint32]:
        from constriction import stream

        coder = stream.stack.AnsCoder()
        # ANS is a stack: what is pushed last is decoded first.
        for batch in reversed(self._batches):
            if batch.frequencies is None:
                coder.encode_reverse(batch.slots, batch.model)
            else:
                for part in reversed(row_parts(batch.frequencies)):
                    weights = row_weights(batch.frequencies[part])
                    coder.encode_reverse(batch.slots[part], batch.model, weights)
        words: NDArray[np.uint32] = coder.get_compressed()
        return words


class RangeEncoder(StreamEncoder):
    """The encoder of a range-coder stream, for models that adapt to what was coded before.

    Decode with :class:`RangeDecoder`, same calls in the same order.
    """

    def __init__(self) -> None:
        from constriction import stream

        super().__init__()
        self._coder = stream.queue.RangeEncoder()

    def _push(self, batch: _Batch) -> None:
        self._check_open()
        if batch.frequencies is None:
            self._coder.encode(batch.slots, batch.model)
            return
        for part in row_parts(batch.frequencies):
            weights = row_weights(batch.frequencies[part])
            self._coder.encode(batch.slots[part], batch.model, weights)

    def _words(self) -> NDArray[np.uint32]:
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words
