"""Sharing lanes among threads: ranges of lanes of about equal work, and a loop that takes them in turn."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["in_threads", "lane_ranges", "thread_count"]

_RANGES_A_THREAD = 4  # so that a thread that is held up leaves its share to the others
_LEAST_SYMBOLS = 1 << 15  # starting a thread costs about as much as decoding these
_START_UP_SYMBOLS = 16  # what starting a lane costs

Result = TypeVar("Result")


def thread_count(threads: int | None) -> int:
    """``threads`` checked, or the number of usable cores for ``None``."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise InvalidParameter(f"threads must be at least 1, got {threads}")
    return threads


def lane_ranges(counts: NDArray[np.int64], threads: int, *, most_symbols: int | None = None) -> list[tuple[int, int]]:
    """Ranges ``(first, last)`` that cover lanes of ``counts`` symbols, with borders at multiples of four lanes.

    None has many more than ``most_symbols`` symbols, unless four lanes have.
    """
    quads = np.add.reduceat(counts, np.arange(0, counts.size, 4)) + _START_UP_SYMBOLS if counts.size else counts
    work = np.cumsum(quads)
    total = int(work[-1]) if work.size else 0
    parts = min(_RANGES_A_THREAD * threads, total // _LEAST_SYMBOLS) if threads > 1 else 1
    if most_symbols is not None:
        parts = max(parts, -(-total // most_symbols))
    shares = np.array([total * part // parts for part in range(1, parts)], np.int64)
    cuts = 4 * np.unique(np.searchsorted(work, shares) + 1) if parts > 1 else np.zeros(0, np.int64)
    edges = [0, *cuts[cuts < counts.size].tolist(), counts.size]
    return list(pairwise(edges))


def in_threads(job: Callable[[int, int], Result], ranges: list[tuple[int, int]], threads: int) -> list[Result]:
    """``job(first, last)`` of every range, in order; the calling thread works too."""
    helpers = min(threads, len(ranges)) - 1
    if helpers < 1:
        return [job(first, last) for first, last in ranges]
    results: dict[int, Result] = {}
    waiting = iter(enumerate(ranges))  # the interpreter lock makes next() safe to share

    def work() -> None:
        for number, (first, last) in waiting:
            results[number] = job(first, last)

    with ThreadPoolExecutor(helpers) as pool:
        others = [pool.submit(work) for _ in range(helpers)]
        work()
        for other in others:
            other.result()
    return [results[number] for number in range(len(ranges))]
