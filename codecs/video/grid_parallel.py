"""Segments fitted side by side: each on a core of its own, results in order, bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from ..run_context import CancellationToken
from .frame_workers import FrameWorkers
from .grid_fitting import fit_segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..run_context import Progress, RunContext
    from .grid_file import GridHeader
    from .grid_parameters import GridParameters
    from .grid_segment import EncodedSegment, SegmentTask

__all__ = ["fit_segments"]

_MOST_AT_ONCE = 8  # each holds its pictures and the state of its fit


def fit_segments(
    tasks: Iterable[SegmentTask], header: GridHeader, params: GridParameters, context: RunContext
) -> Iterator[tuple[SegmentTask, EncodedSegment]]:
    """Every task with its result, in order. ``tasks`` is read as far as fits are under way.

    Every fit keeps its state in a folder of its own. The results do not depend on how many run at once.
    """
    device = context.torch_device()
    with FrameWorkers(context.threads, device) as workers:
        count = min(params.segments_at_once or min(workers.count, _MOST_AT_ONCE), len(header.segments))
        if count == 1 or device == "cuda":
            for task in tasks:
                yield task, fit_segment(task, header, params, _own_folder(context, task))
            return
        shared = _SharedContext(context, len(header.segments), max(workers.count // count, 1))
        with ThreadPoolExecutor(count, thread_name_prefix="segment") as pool:
            waiting: deque[tuple[SegmentTask, _Future]] = deque()
            try:
                for task in tasks:
                    own = shared.of(task)
                    waiting.append((task, pool.submit(fit_segment, task, header, params, own)))
                    if len(waiting) == count:
                        yield _next(waiting)
                while waiting:
                    yield _next(waiting)
            except BaseException:
                shared.cancellation.cancel()
                raise


if TYPE_CHECKING:
    from concurrent.futures import Future

    _Future = Future[EncodedSegment]


def _next(waiting: deque[tuple[SegmentTask, _Future]]) -> tuple[SegmentTask, EncodedSegment]:
    task, future = waiting.popleft()
    return task, future.result()


def _own_folder(context: RunContext, task: SegmentTask) -> RunContext:
    folder = context.checkpoint_folder
    return context if folder is None else replace(context, checkpoint_folder=folder / f"segment-{task.number:05}")


class _SharedContext:
    """A run context for several fits: one progress, and a cancellation of their own beside the caller's."""

    def __init__(self, context: RunContext, segments: int, threads: int) -> None:
        self._context = context
        self._segments = segments
        self._threads = threads
        self._lock = threading.Lock()
        self._done: dict[int, float] = {}
        self.cancellation = _JointToken(context.cancellation)

    def of(self, task: SegmentTask) -> RunContext:
        """The context of the fit of ``task``."""

        def progress(report: Progress) -> None:
            if self._context.progress is None or report.stage != "fitting" or not report.total:
                return
            with self._lock:
                self._done[task.number] = report.done / report.total
                percent = round(100 * sum(self._done.values()) / self._segments)
                self._context.progress(replace(report, done=percent, total=100, unit="percent"))

        own = replace(self._context, progress=progress, cancellation=self.cancellation, threads=self._threads)
        return _own_folder(own, task)


class _JointToken(CancellationToken):
    """Cancelled by itself or with the token it was made from."""

    def __init__(self, outer: CancellationToken) -> None:
        super().__init__()
        self._outer = outer

    @property
    def cancelled(self) -> bool:
        return self._outer.cancelled or super().cancelled
