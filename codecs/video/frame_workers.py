"""One frame per thread: how a CPU with several cores works on a clip.

Networks for small pictures have layers of some microseconds: to split each over the cores costs more in waiting than it
gains, and on a busy machine many times as much. Frames are independent, so every thread takes whole frames and uses
one core. What a frame gives then does not depend on the number of threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["FrameWorkers"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class FrameWorkers:
    """A context manager inside which torch runs each operation on one core, and :meth:`map` frames side by side.

    ``threads`` None means all cores. On CUDA nothing is split and everything runs in the calling thread.
    """

    def __init__(self, threads: int | None, device: str) -> None:
        self.count = 1 if device == "cuda" else threads or _usable_cores()
        self._device = device
        self._pool: ThreadPoolExecutor | None = None
        self._before = torch.get_num_threads()

    def __enter__(self) -> Self:
        if self._device != "cuda":
            self._before = torch.get_num_threads()
            torch.set_num_threads(1)
        if self.count > 1:
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="frame")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._device != "cuda":
            torch.set_num_threads(self._before)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``work`` of every item, in order; at most two items per thread are in flight."""
        if self._pool is None:
            yield from map(work, items)
            return
        waiting = []
        for item in items:
            waiting.append(self._pool.submit(work, item))
            if len(waiting) >= 2 * self.count:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
