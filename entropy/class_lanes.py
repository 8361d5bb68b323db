"""Bare ANS lanes in which every symbol has a class of its own, for codecs that know classes and lengths themselves.

The words are those of a lane block whose groups hold one symbol (``docs/entropy.md``); here they come without its
header, and the look-up tables are made once for any number of calls.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile, InvalidParameter
from .decoding_tables import BUCKET_BITS, aligned_entries, all_aligned
from .frequency_table import PRECISION
from .lane_codes import plan_codes
from .lane_threads import in_threads, lane_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable

__all__ = ["ClassLaneDecoder", "ClassLaneEncoder", "check_class_tables"]

_MOST_ENTRIES = 1 << 16


def check_class_tables(tables: Sequence[FrequencyTable]) -> None:
    """Raise :class:`InvalidParameter` unless ``tables`` have 12 bits, escapes, and symbols within -127 .. 126."""
    for number, table in enumerate(tables):
        if not table.escape or table.slots < 2:
            raise InvalidParameter(f"class table {number} has no escape beside its symbols")
        if table.minimum < -127 or table.maximum > 126:
            raise InvalidParameter(f"class table {number} covers {table.minimum}..{table.maximum}, beyond -127..126")
    if not all_aligned(tables):
        raise InvalidParameter(f"class tables must have {BUCKET_BITS} bits")
    if len(tables) * max(table.slots for table in tables) > _MOST_ENTRIES:
        raise InvalidParameter(f"{len(tables)} class tables have more than {_MOST_ENTRIES} slots together")


class ClassLaneDecoder:
    """Decodes lanes under ``tables``; any number of threads may use it.

    ``marker`` is the code of an escape; all other codes are symbols modulo 256.

    Raises:
        InvalidParameter: see :func:`check_class_tables`.
    """

    def __init__(self, tables: Sequence[FrequencyTable]) -> None:
        check_class_tables(tables)
        plan = plan_codes(tables)
        if plan.code_dtype is not np.uint8 or plan.marker is None:
            raise InvalidParameter("the symbols of all class tables together need more than 8 bits")
        self.marker = int(plan.marker) & 255
        self._entries = aligned_entries(tables, plan.codes, 8).astype(np.uint32)

    def decode(
        self,
        words: NDArray[np.uint32],
        sizes: NDArray[np.int64],
        counts: NDArray[np.int64],
        classes: NDArray[np.uint16],
        out: NDArray[np.uint8],
        *,
        threads: int = 1,
    ) -> None:
        """Fill ``out`` with the codes of lanes of ``counts`` symbols and ``sizes`` words, one after the other.

        ``classes`` has one number for every symbol, below the number of tables.

        Raises :class:`CorruptFile` where the words of a lane do not end exactly with its symbols.
        """
        from .native_class_decoding import decode_each

        ends = np.cumsum(sizes)
        if counts.size and int(ends[-1]) > words.size:
            raise CorruptFile(f"class lanes: {ends[-1]} words promised, {words.size} are there")
        begins, starts = ends - sizes, np.cumsum(counts) - counts
        status = np.zeros(counts.size, np.uint8)
        readable = words.view()
        readable.flags.writeable = False  # so that the loop is compiled for one type only

        def job(first: int, last: int) -> None:
            most = np.add.reduceat(sizes[first:last], np.arange(0, last - first, 4)).max(initial=0)
            scratch = np.empty(1 + int(most), np.uint32)
            decode_each(
                readable, begins, ends, counts, classes, self._entries, out, starts, scratch, first, last, status
            )

        if threads > 1:
            in_threads(job, lane_ranges(counts, threads), threads)
        elif counts.size:
            job(0, counts.size)
        wrong = np.flatnonzero(status)
        if wrong.size:
            lane = int(wrong[0])
            raise CorruptFile(
                f"class lanes: the {sizes[lane]} words of lane {lane} do not end exactly with its "
                f"{counts[lane]} symbols"
            )


class ClassLaneEncoder:
    """Encodes lanes under ``tables``; any number of threads may use it.

    A symbol is given as its *entry*: its class times ``stride`` plus its slot in the table of that class.

    Raises:
        InvalidParameter: see :func:`check_class_tables`.
    """

    def __init__(self, tables: Sequence[FrequencyTable]) -> None:
        from .lanes_numba import encoder_tables

        check_class_tables(tables)
        self._entries, width, self._aligned = encoder_tables(tables)
        self.stride = width // 4
        self._longest_bits = PRECISION - min(int(table.frequencies.min()).bit_length() for table in tables) + 1
        # kept by every thread, because fresh memory has to be cleared by the system, page by page
        self._memory = threading.local()

    def costs(self, tables: Sequence[FrequencyTable]) -> NDArray[np.float32]:
        """The ideal code length in bits of every entry, [classes * stride]."""
        costs = np.zeros((len(tables), self.stride), np.float32)
        for row, table in zip(costs, tables, strict=True):
            row[: table.slots] = PRECISION - np.log2(table.frequencies)
        return costs.ravel()

    def encode(
        self, entries: NDArray[np.uint16], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The words of lanes of ``counts`` symbols, one after the other, and how many each lane has."""
        from .native_encoding import encode_lanes

        nothing: Any = np.zeros(1, np.uint16)
        capacity = int(counts.max(initial=0)) + 1
        most_words = (entries.size * (self._longest_bits + 1) >> 5) + 3 * counts.size
        memory = getattr(self._memory, "words", None)
        if memory is None or memory.size < most_words + 4 * capacity:
            memory = self._memory.words = np.empty(most_words + 4 * capacity, np.uint32)
        words, scratch = memory[:most_words], memory[most_words:]
        sizes = np.zeros(counts.size, np.int64)
        total = encode_lanes(
            entries,
            np.cumsum(counts) - counts,
            counts,
            nothing,
            np.zeros(counts.size, np.int64),
            capacity,  # one group holds a whole lane
            self._entries,
            np.uint64(0),
            self._aligned,
            scratch,
            capacity,
            words,
            0,
            counts.size,
            sizes,
        )
        return words[:total].copy(), sizes
