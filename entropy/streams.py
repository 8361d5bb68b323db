"""Streams of symbols: an ANS stack and a range-coder queue over integer frequency tables.

Both run on constriction. A table of frequencies ``P`` reaches it as the float64 weights ``P - 1``
with ``perfect=False``, which makes its internal scale exactly one: the probabilities it uses are
the integers of the table and nothing is rounded. A table with a single slot codes nothing.

Byte layout of both streams (``docs/entropy.md`` is normative): number of 32-bit words, number of
escapes, size of the escape section if there are any, escape section, words (little-endian).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..formats.errors import CorruptFile, InvalidParameter
from .bit_io import append_varint, read_varint
from .escapes import escape_codes, pack_escapes, unpack_escapes, values_of_codes
from .frequency_table import PRECISION, FrequencyTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "AnsDecoder",
    "AnsEncoder",
    "RangeDecoder",
    "RangeEncoder",
    "SymbolDecoder",
    "SymbolEncoder",
    "decode_symbols",
    "encode_symbols",
    "read_symbols",
]

_MIN_TOTAL_BITS = 8
_ROWS_AT_ONCE = 1 << 22  # float64 weights built per step: 32 MiB


class SymbolEncoder(Protocol):
    """What both encoders offer. Decoders must repeat the same calls in the same order."""

    def encode(self, values: ArrayLike, table: FrequencyTable) -> None:
        """Encode integers of any shape, in C order, all under ``table``."""

    def encode_indexed(self, values: ArrayLike, tables: Sequence[FrequencyTable], table_index: ArrayLike) -> None:
        """Encode ``values`` where element ``i`` uses ``tables[table_index[i]]``.

        ``table_index`` broadcasts against ``values``. Elements are coded grouped by table.
        """

    def encode_rows(self, slots: ArrayLike, frequencies: ArrayLike) -> None:
        """Encode slot numbers [count], each under its own row of ``frequencies`` [count, slots].

        Every row holds integers >= 1 that sum to the same ``2**k``, 8 <= k <= 24.
        """

    def finish(self) -> bytes:
        """The stream as bytes; the encoder must not be used afterwards."""


class SymbolDecoder(Protocol):
    """What both decoders offer; any malformed data raises ``CorruptFile``."""

    def decode(self, table: FrequencyTable, count: int) -> NDArray[np.int64]:
        """Decode ``count`` values under ``table``: int64 [count]."""

    def decode_indexed(self, tables: Sequence[FrequencyTable], table_index: ArrayLike) -> NDArray[np.int64]:
        """Decode one value per element of ``table_index``: int64 of the same shape."""

    def decode_rows(self, frequencies: ArrayLike) -> NDArray[np.int64]:
        """Decode one slot number per row of ``frequencies`` [count, slots]: int64 [count]."""

    def finish(self) -> None:
        """Check that everything in the stream has been decoded."""


class _Batch:
    """Symbols with one constriction model, or with one row of weights each."""

    def __init__(self, slots: NDArray[np.int32], model: Any, frequencies: NDArray[Any] | None = None) -> None:
        self.slots = slots
        self.model = model
        self.frequencies = frequencies


class _EncoderBase:
    """Turns values into batches of slots and keeps the escapes; subclasses own the coder."""

    def __init__(self) -> None:
        self._escapes: list[NDArray[np.int64]] = []
        self._finished = False

    def encode(self, values: ArrayLike, table: FrequencyTable) -> None:
        self._encode_run(_as_integers(values, "values").ravel(), table)

    def encode_indexed(self, values: ArrayLike, tables: Sequence[FrequencyTable], table_index: ArrayLike) -> None:
        array = _as_integers(values, "values")
        index = _table_index(table_index, len(tables))
        try:
            index = np.broadcast_to(index, array.shape)
        except ValueError as error:
            raise InvalidParameter(
                f"table_index {index.shape} does not broadcast to the values {array.shape}"
            ) from error
        flat = array.ravel()
        for number, positions in _positions_by_table(index.ravel()):
            self._encode_run(flat[positions], tables[number])

    def encode_rows(self, slots: ArrayLike, frequencies: ArrayLike) -> None:
        flat = _as_integers(slots, "slots").ravel()
        rows = _as_rows(frequencies)
        if len(flat) != len(rows):
            raise InvalidParameter(f"{len(flat)} slots but {len(rows)} rows of frequencies")
        if len(flat) == 0:
            return
        if int(flat.min()) < 0 or int(flat.max()) >= rows.shape[1]:
            raise InvalidParameter(f"slots must lie in 0..{rows.shape[1] - 1}, the row's length")
        if rows.shape[1] > 1:
            self._push(_Batch(flat.astype(np.int32), _row_family(), rows))

    def finish(self) -> bytes:
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

    def _push(self, batch: _Batch) -> None:
        raise NotImplementedError

    def _words(self) -> NDArray[np.uint32]:
        raise NotImplementedError


class _DecoderBase:
    """Turns slots back into values; subclasses own the coder."""

    def __init__(self, data: bytes | memoryview) -> None:
        words, self._escapes, end = read_stream(data, 0)
        if end != len(data):
            raise CorruptFile(f"symbol stream: {len(data) - end} bytes left over at byte {end}")
        self._used_escapes = 0
        self._open(words)

    def decode(self, table: FrequencyTable, count: int) -> NDArray[np.int64]:
        if count < 0:
            raise InvalidParameter(f"count must not be negative, got {count}")
        if table.slots == 1 or count == 0:
            return np.full(count, table.minimum, np.int64)
        values = self._pop(coder_model(table), count).astype(np.int64) + table.minimum
        if table.escape:
            self._restore_escapes(values, table)
        return values

    def decode_indexed(self, tables: Sequence[FrequencyTable], table_index: ArrayLike) -> NDArray[np.int64]:
        index = _table_index(table_index, len(tables))
        values = np.empty(index.size, np.int64)
        for number, positions in _positions_by_table(index.ravel()):
            values[positions] = self.decode(tables[number], len(positions))
        return values.reshape(index.shape)

    def decode_rows(self, frequencies: ArrayLike) -> NDArray[np.int64]:
        rows = _as_rows(frequencies)
        if rows.shape[1] == 1 or len(rows) == 0:
            return np.zeros(len(rows), np.int64)
        step = max(_ROWS_AT_ONCE // rows.shape[1], 1)
        parts = [
            self._pop(_row_family(), _row_weights(rows[start : start + step])) for start in range(0, len(rows), step)
        ]
        return np.concatenate(parts).astype(np.int64)

    def finish(self) -> None:
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
        values[positions] = values_of_codes(codes, *_bounds(table))
        self._used_escapes = stop

    def _pop(self, model: Any, amount: int | NDArray[np.float64]) -> NDArray[np.int32]:
        try:
            slots: NDArray[np.int32] = self._coder.decode(model, amount)
        except AssertionError as error:
            # The only way in which constriction reports data that no encoder could have written.
            raise CorruptFile("symbol stream: the words fit no sequence of symbols") from error
        return slots

    def _open(self, words: NDArray[np.uint32]) -> None:
        self._coder: Any
        raise NotImplementedError

    def _exhausted(self) -> bool:
        raise NotImplementedError


class AnsEncoder(_EncoderBase):
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
                for part in reversed(_row_parts(batch.frequencies)):
                    weights = _row_weights(batch.frequencies[part])
                    coder.encode_reverse(batch.slots[part], batch.model, weights)
        words: NDArray[np.uint32] = coder.get_compressed()
        return words


class AnsDecoder(_DecoderBase):
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


class RangeEncoder(_EncoderBase):
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
        for part in _row_parts(batch.frequencies):
            weights = _row_weights(batch.frequencies[part])
            self._coder.encode(batch.slots[part], batch.model, weights)

    def _words(self) -> NDArray[np.uint32]:
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words


class RangeDecoder(_DecoderBase):
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
        encoder.encode(values, _only_table(tables))
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
        values = decoder.decode(_only_table(tables), count)
    else:
        raise InvalidParameter("decoding needs table_index or count")
    decoder.finish()
    return values, end


def split_escapes(values: NDArray[np.int64], table: FrequencyTable) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Slots of ``values`` under ``table``, and the escape codes of those that lie outside it.

    Raises:
        InvalidParameter: a value lies outside and the table has no escape slot.
    """
    # Wrap-around is harmless: wrapped differences are still outside the table.
    offsets = values.view(np.uint64) - np.int64(table.minimum).view(np.uint64)
    regular = table.slots - table.escape
    outside = offsets >= np.uint64(regular)
    if not outside.any():
        return offsets.astype(np.int32), np.zeros(0, np.int64)
    if not table.escape:
        raise InvalidParameter(
            f"{int(outside.sum())} values (the first is {int(values[outside][0])}) lie outside "
            f"{table.minimum}..{table.maximum} and the table has no escape slot; "
            f"build it with escape=True"
        )
    codes = escape_codes(values[outside], *_bounds(table))
    return np.where(outside, regular, offsets).astype(np.int32), codes


def coder_model(table: FrequencyTable) -> Any:
    """The constriction model whose probabilities are exactly the table's frequencies."""
    from constriction import stream

    model = table.__dict__.get("_coder_model")
    if model is None:
        model = stream.model.Categorical(table.frequencies.astype(np.float64) - 1.0, perfect=False)
        table.__dict__["_coder_model"] = model
    return model


def write_stream(words: NDArray[np.uint32], codes: NDArray[np.int64]) -> bytes:
    """The byte layout shared by both streams."""
    out = bytearray()
    append_varint(out, int(words.size))
    append_varint(out, int(codes.size))
    if codes.size:
        section = pack_escapes(codes)
        append_varint(out, len(section))
        out += section
    return bytes(out) + words.astype("<u4").tobytes()


def read_stream(data: bytes | memoryview, position: int) -> tuple[NDArray[np.uint32], NDArray[np.int64], int]:
    """The words and escape codes of the stream at ``position``, and the position after it."""
    what = "symbol stream"
    word_count, position = read_varint(data, position, f"{what}, word count")
    escape_count, position = read_varint(data, position, f"{what}, escape count")
    size = 0
    if escape_count:
        size, position = read_varint(data, position, f"{what}, escape section")
    end = position + size + 4 * word_count
    if end > len(data):
        raise CorruptFile(f"{what}: it needs {end} bytes and the data end at byte {len(data)}")
    codes = unpack_escapes(memoryview(data)[position : position + size], escape_count, what)
    words = np.frombuffer(data, "<u4", word_count, position + size).astype(np.uint32)
    return words, codes, end


def _bounds(table: FrequencyTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([table.minimum], np.int64), np.array([table.maximum], np.int64)


def _only_table(tables: Sequence[FrequencyTable]) -> FrequencyTable:
    if len(tables) != 1:
        raise InvalidParameter(f"{len(tables)} tables need a table_index")
    return tables[0]


def _as_integers(values: ArrayLike, what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise InvalidParameter(f"{what} must be integers, got {array.dtype}")
    if array.dtype == np.uint64 and int(array.max()) >= 1 << 63:
        raise InvalidParameter(f"{what} must be below 2**63")
    return np.ascontiguousarray(array, np.int64)


def _table_index(table_index: ArrayLike, count: int) -> NDArray[np.int64]:
    index = _as_integers(table_index, "table_index")
    if index.size and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise InvalidParameter(f"table_index holds {int(index.min())}..{int(index.max())}, there are {count} tables")
    return index


def _positions_by_table(index: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Tables in ascending order, each with the positions that use it, in ascending order."""
    order = np.argsort(index, kind="stable")
    numbers, starts = np.unique(index[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=False))


def _as_rows(frequencies: ArrayLike) -> NDArray[Any]:
    rows = np.asarray(frequencies)
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.shape[1] == 0:
        raise InvalidParameter(f"frequencies must be integers [count, slots], got {rows.dtype} {rows.shape}")
    if len(rows) == 0:
        return rows
    totals = rows.sum(axis=1, dtype=np.int64)
    total = int(totals[0])
    if total.bit_count() != 1 or not _MIN_TOTAL_BITS <= total.bit_length() - 1 <= PRECISION:
        raise InvalidParameter(f"row 0 sums to {total}, not to 2**8 .. 2**{PRECISION}")
    if (totals != total).any() or int(rows.min()) < 1:
        raise InvalidParameter(f"every row must hold integers >= 1 that sum to {total}")
    return rows


def _row_family() -> Any:
    from constriction import stream

    return stream.model.Categorical(perfect=False)


def _row_weights(rows: NDArray[Any]) -> NDArray[np.float64]:
    scale = (1 << PRECISION) // int(rows[0].sum(dtype=np.int64))
    weights: NDArray[np.float64] = rows.astype(np.float64) * float(scale) - 1.0
    return weights


def _row_parts(rows: NDArray[Any]) -> list[slice]:
    step = max(_ROWS_AT_ONCE // rows.shape[1], 1)
    return [slice(start, start + step) for start in range(0, len(rows), step)]
