"""The native decoder and encoder of lanes: look-up tables and threads around the compiled loops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile
from .decoding_tables import BUCKET_BITS, BUCKETS, aligned_entries, all_aligned
from .frequency_table import PRECISION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable
    from .lane_block import LaneBlock, LaneClasses
    from .lane_codes import CodePlan
    from .lanes_constriction import LaneEncoder

__all__ = ["decode", "prepare_encoder"]


def decode(block: LaneBlock, lanes: NDArray[np.int64], plan: CodePlan, threads: int) -> NDArray[Any]:
    """The codes of ``lanes``, one after the other, decoded by ``threads`` threads.

    Raises:
        CorruptFile: a lane's words do not end exactly with its symbols.
    """
    counts = block.symbol_counts[lanes]
    out = np.empty(int(counts.sum()), plan.code_dtype)
    aligned = all_aligned(block.tables)
    words, offsets = _gather_words(block, lanes)
    status = _check_words(words, offsets, aligned)
    if aligned:
        words = _shift_down(words, offsets)
    run = _aligned_job(block, plan) if aligned else _general_job(block, plan)
    starts = np.cumsum(counts) - counts
    rows = block.classes.offsets[lanes]
    found = np.zeros(lanes.size, np.uint8)

    def job(first: int, last: int) -> None:
        run(words, offsets, counts, rows, out, starts, first, last, found)

    _in_threads(job, counts, threads)
    wrong = np.flatnonzero(status | found)
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

    entries, reciprocals, stride, aligned = _encoder_tables(tables)

    def encode(
        slots: NDArray[Any], counts: NDArray[np.int64], classes: LaneClasses
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        capacity = int(counts.max(initial=0)) + 1
        words = np.empty(slots.size + 3 * counts.size, np.uint32)
        sizes = np.zeros(counts.size, np.int64)
        total = encode_lanes(
            slots,
            np.cumsum(counts) - counts,
            counts,
            classes.numbers,
            classes.offsets,
            classes.group_size,
            entries,
            reciprocals,
            np.uint64(stride),
            aligned,
            np.empty(4 * capacity, np.uint32),
            np.uint64(capacity),
            words,
            0,
            counts.size,
            sizes,
        )
        return words[:total].copy(), sizes

    return encode


def _gather_words(block: LaneBlock, lanes: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The words of ``lanes`` behind one word of padding, and where each lane's begin and end."""
    sizes = np.diff(block.word_offsets)[lanes]
    offsets = np.concatenate([[1], 1 + np.cumsum(sizes)]).astype(np.int64)
    words = np.zeros(int(offsets[-1]), np.uint32)
    if lanes.size and (np.diff(lanes) == 1).all():
        first = int(block.word_offsets[lanes[0]])
        words[1:] = block.words[first : first + words.size - 1]
    else:
        for start, lane in zip(offsets.tolist(), lanes.tolist(), strict=False):
            part = block.words[block.word_offsets[lane] : block.word_offsets[lane + 1]]
            words[start : start + part.size] = part
    return words, offsets


def _check_words(words: NDArray[np.uint32], offsets: NDArray[np.int64], aligned: bool) -> NDArray[np.uint8]:
    """1 for each lane whose first or last word no encoder could have written."""
    some = np.diff(offsets) > 0
    wrong = some & (words[offsets[1:] - 1] == 0)
    if aligned:
        # The state ends at zero, and its low 12 bits are those of the first word.
        wrong |= some & ((words[np.minimum(offsets[:-1], words.size - 1)] & 4095) != 0)
    status: NDArray[np.uint8] = wrong.astype(np.uint8)
    return status


def _shift_down(words: NDArray[np.uint32], offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Each lane's words, as one long number, divided by 2**12; in place."""
    tops = words[offsets[1:] - 1] >> np.uint32(12)
    some = np.diff(offsets) > 0
    step = 1 << 20
    for start in range(0, words.size, step):
        following = words[start + 1 : start + step + 1] << np.uint32(20)
        part = words[start : start + step]
        part >>= np.uint32(12)
        part[: following.size] |= following
    words[offsets[1:][some] - 1] = tops[some]
    return words


def _aligned_job(block: LaneBlock, plan: CodePlan) -> Callable[..., None]:
    from .native_decoding import decode_aligned

    # A frequency of 4096, and codes of 16 bits, need the wider entry.
    wide = plan.code_dtype is np.uint16 or any(table.slots == 1 for table in block.tables)
    code_bits, dtype = (16, np.uint64) if wide else (8, np.uint32)
    entries = aligned_entries(block.tables, plan.codes, code_bits).astype(dtype)
    classes = block.classes

    def run(words: Any, offsets: Any, counts: Any, rows: Any, out: Any, starts: Any, *rest: Any) -> None:
        decode_aligned(
            words,
            offsets,
            counts,
            classes.numbers,
            rows,
            classes.group_size,
            entries,
            np.uint64(code_bits),
            out,
            starts,
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

    def run(words: Any, offsets: Any, counts: Any, rows: Any, out: Any, starts: Any, *rest: Any) -> None:
        decode_general(words, offsets, counts, classes.numbers, rows, classes.group_size, *tables, out, starts, *rest)

    return run


def _encoder_tables(tables: Sequence[FrequencyTable]) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int, bool]:
    aligned = all_aligned(tables)
    shift = np.uint64(BUCKET_BITS if aligned else 0)
    stride = max(table.slots for table in tables)
    entries = np.zeros((len(tables), stride), np.uint64)
    frequencies = np.ones((len(tables), stride), np.uint64)
    for number, table in enumerate(tables):
        frequencies[number, : table.slots] = table.frequencies >> shift
        entries[number, : table.slots] = table.cumulative[:-1] >> shift
    entries |= frequencies << np.uint64(32)
    reciprocals = np.uint64((1 << 64) - 1) // frequencies
    return entries.ravel(), reciprocals.ravel(), stride, aligned


def _in_threads(job: Callable[[int, int], None], counts: NDArray[np.int64], threads: int) -> None:
    """Run ``job(first, last)`` over ranges of lanes with about equal numbers of symbols."""
    quads = -(-counts.size // 4)
    parts = min(threads, quads)
    if parts <= 1:
        job(0, counts.size)
        return
    # A lane's start-up costs about as much as a few symbols.
    work = np.cumsum(np.add.reduceat(counts, np.arange(0, counts.size, 4)) + 16)
    cuts = np.searchsorted(work, work[-1] * np.arange(1, parts) // parts) * 4
    edges = [0, *np.minimum(cuts, counts.size).tolist(), counts.size]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(job, edges[:-1], edges[1:]))
