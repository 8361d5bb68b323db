"""Measuring how fast bytes arrive, from the times at which they did."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["BandwidthMeter"]


class BandwidthMeter:
    """Bytes per second over the last ``window_seconds`` that were spent waiting for bytes.

    Time in which nobody waited (the link was idle because nothing was asked for) does not count. All times are given
    by the caller, from one monotonic clock. Safe to use from several threads.
    """

    def __init__(self, window_seconds: float = 0.2) -> None:
        self._window = window_seconds
        self._lock = threading.Lock()
        self._reads: deque[tuple[float, int]] = deque()
        self._seconds = 0.0
        self._bytes = 0
        self._waiting_since: float | None = None

    def begin(self, now: float) -> None:
        """A read begins; until :meth:`end` its waiting counts."""
        with self._lock:
            self._waiting_since = now

    def end(self, now: float, count: int) -> None:
        """The read that began last is over and gave ``count`` bytes."""
        with self._lock:
            if self._waiting_since is None:
                raise ValueError("no read has begun")
            seconds = max(now - self._waiting_since, 0.0)
            self._waiting_since = None
            self._reads.append((seconds, count))
            self._seconds += seconds
            self._bytes += count
            while len(self._reads) > 1 and self._seconds - self._reads[0][0] >= self._window:
                dropped, size = self._reads.popleft()
                self._seconds -= dropped
                self._bytes -= size

    def cancel(self) -> None:
        """The read that began last was given up; its waiting counts no more."""
        with self._lock:
            self._waiting_since = None

    def estimate(self, now: float) -> float | None:
        """Bytes per second, with the read in progress counted as if it ended now; None before any byte came."""
        with self._lock:
            waiting = 0.0 if self._waiting_since is None else max(now - self._waiting_since, 0.0)
            seconds, size = self._seconds, self._bytes
            for spent, count in self._reads:
                # a long wait pushes the reads before it out of the window
                if waiting == 0.0 or seconds - spent + waiting < self._window:
                    break
                seconds -= spent
                size -= count
            total = seconds + waiting
            if not self._reads or total <= 0.0:
                return None
            # nothing within the whole window: no more than one byte has come
            return max(size, 1) / total
