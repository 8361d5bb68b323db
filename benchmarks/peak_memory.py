"""The most memory this process has held since it was asked to forget, on Linux."""

from __future__ import annotations

import os
from functools import cache

__all__ = ["peak_memory_bytes", "reset_peak_memory"]

_STATUS_BYTES = 1 << 14


def reset_peak_memory() -> None:
    """Let the peak start anew from what is held now."""
    try:
        os.write(_opened("clear_refs", os.getpid(), os.O_WRONLY), b"5")
    except OSError:
        return  # not permitted here: the peak then counts from the start of the process


def peak_memory_bytes() -> int | None:
    """Resident memory at its peak, or None where the system does not tell."""
    try:
        status = os.pread(_opened("status", os.getpid(), os.O_RDONLY), _STATUS_BYTES, 0)
    except OSError:
        return None
    _, _, peak = status.partition(b"VmHWM:")
    return int(peak.split(maxsplit=1)[0]) * 1024 if peak else None


@cache
def _opened(name: str, process: int, mode: int) -> int:
    """Kept open: opening takes longer than reading. A forked process opens its own."""
    return os.open(f"/proc/{process}/{name}", mode | os.O_CLOEXEC)
