"""The native decoder and encoder of lanes: look-up tables and threads around the compiled loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile
from .decoding_tables import BUCKET_BITS, BUCKETS, aligned_entries, all_aligned
from .frequency_table import PRECISION
from .lane_threads import in_threads, lane_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable
    from .lane_block import LaneBlock, LaneClasses
    from .lane_codes import CodePlan
    from .lanes_constriction import LaneEncoder

__all__ = ["decode", "encoder_tables", "prepare_encoder"]


def decode(block: LaneBlock, lanes: NDArray[np.int64], plan: CodePlan, threads: int) -> NDArray[Any]:
    """The codes of ``lanes``, one after the other, decoded by ``threads`` threads.

    Raises:
        CorruptFile: a lane's words do not end exactly with its symbols.
    """
    counts = block.symbol_counts[lanes]
    out = np.empty(int(counts.sum()), plan.code_dtype)
    status = np.zeros(lanes.size, np.uint8)
    words = _readable(block.words)
    begins, ends = block.word_offsets[:-1][lanes], block.word_offsets[1:][lanes]
    run = _aligned_job(block, plan) if all_aligned(block.tables) else _general_job(block, plan)
    starts = np.cumsum(counts) - counts
    rows = block.classes.offsets[lanes]

    def job(first: int, last: int) -> None:
        sizes = np.add.reduceat((ends - begins)[first:last], np.arange(0, last - first, 4))
        scratch = np.empty(1 + int(sizes.max(initial=0)), np.uint32)
        run(words, begins, ends, counts, rows, out, starts, scratch, first, last, status)

    in_threads(job, lane_ranges(counts, threads), threads)
    wrong = np.flatnonzero(status)
    if wrong.size:
        lane = int(lanes[wrong[0]])
        raise CorruptFile(
            f"lane block: the {block.word_offsets[lane + 1] - block.word_offsets[lane]} words of lane {lane} "
            f"do not end exactly with its {block.symbol_counts[lane]} symbols"
        )
    return out


def prepare_encoder(tables: Sequence[FrequencyTable]) -> LaneEncoder:
    """An encoder of lanes under ``tables``; see :func:`.lanes_constriction.prepare_encoder`."""
    from .native_encoding import encode_lanes

    entries, stride, aligned = encoder_tables(tables)
    longest_bits = PRECISION - min(int(table.frequencies.min()).bit_length() for table in tables) + 1

    def encode(
        slots: NDArray[Any], counts: NDArray[np.int64], classes: LaneClasses
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        capacity = int(counts.max(initial=0)) + 1
        # A symbol adds the bits of the rarest slot and rounding far below one bit; each lane ends within three words.
        words = np.empty((slots.size * (longest_bits + 1) >> 5) + 3 * counts.size, np.uint32)
        sizes = np.zeros(counts.size, np.int64)
        total = encode_lanes(
            slots,
            np.cumsum(counts) - counts,
            counts,
            classes.numbers,
            classes.offsets,
            classes.group_size,
            entries,
            np.uint64(stride),
            aligned,
            np.empty(4 * capacity, np.uint32),
            capacity,
            words,
            0,
            counts.size,
            sizes,
        )
        return words[:total].copy(), sizes

    return encode


def _readable(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """``words`` as an aligned, read-only array, so that kernels are compiled for one type only."""
    aligned = words if words.flags.aligned and words.flags.c_contiguous else words.copy()
    view = aligned.view(np.uint32)
    view.flags.writeable = False
    return view


def _aligned_job(block: LaneBlock, plan: CodePlan) -> Callable[..., None]:
    from .native_decoding import decode_aligned

    # A frequency of 4096, and codes of 16 bits, need the wider entry.
    wide = plan.code_dtype is np.uint16 or any(table.slots == 1 for table in block.tables)
    code_bits, dtype = (16, np.uint64) if wide else (8, np.uint32)
    entries = aligned_entries(block.tables, plan.codes, code_bits).astype(dtype)
    classes = block.classes

    def run(words: Any, begins: Any, ends: Any, counts: Any, rows: Any, *rest: Any) -> None:
        decode_aligned(
            words,
            begins,
            ends,
            counts,
            classes.numbers,
            rows,
            classes.group_size,
            entries,
            np.uint64(code_bits),
            *rest,
        )

    return run


def _general_job(block: LaneBlock, plan: CodePlan) -> Callable[..., None]:
    from .native_decoding import decode_general

    stride = max(table.slots for table in block.tables)
    buckets = np.empty((len(block.tables), BUCKETS), np.uint32)
    slots = np.zeros((len(block.tables), stride), np.uint64)
    codes = np.zeros((len(block.tables), stride), plan.code_dtype)
    edges = np.arange(BUCKETS + 1, dtype=np.int64) << (PRECISION - BUCKET_BITS)
    for number, table in enumerate(block.tables):
        starts = table.cumulative[:-1]
        first = np.searchsorted(starts, edges[:-1], side="right") - 1
        last = np.searchsorted(starts, edges[1:], side="left") - 1
        buckets[number] = first | (last - first) << 16
        slots[number, : table.slots] = starts.astype(np.uint64) | table.frequencies.astype(np.uint64) << np.uint64(32)
        codes[number, : table.slots] = plan.codes[number]
    tables = (buckets.ravel(), slots.ravel(), codes.ravel(), np.uint64(stride))
    classes = block.classes

    def run(words: Any, begins: Any, ends: Any, counts: Any, rows: Any, *rest: Any) -> None:
        decode_general(words, begins, ends, counts, classes.numbers, rows, classes.group_size, *tables, *rest)

    return run


def encoder_tables(tables: Sequence[FrequencyTable]) -> tuple[NDArray[np.uint64], int, bool]:
    """The entries of :func:`.native_encoding.encode_lanes`, how many belong to a table, and whether all are aligned."""
    aligned = all_aligned(tables)
    shift = BUCKET_BITS if aligned else 0
    slots = max(table.slots for table in tables)
    entries = np.zeros((len(tables), slots, 4), np.uint64)
    for row, table in zip(entries, tables, strict=True):
        frequencies = table.frequencies.astype(np.uint64) >> np.uint64(shift)
        columns = row[: table.slots].T
        columns[0] = (frequencies << np.uint64(40)) - np.uint64(1)  # 2**24 << 40 wraps to the largest state of all
        columns[1] = np.uint64((1 << 64) - 1) // frequencies
        columns[2] = table.cumulative[:-1] >> shift
        columns[3] = np.uint64(1 << (PRECISION - shift)) - frequencies
    return entries.ravel(), 4 * slots, aligned
