"""The most memory this process has held since it was asked to forget, on Linux."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak_memory_bytes", "reset_peak_memory"]

_PROCESS = Path("/proc/self")


def reset_peak_memory() -> None:
    """Let the peak start anew from what is held now."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return  # not permitted here: the peak then counts from the start of the process


def peak_memory_bytes() -> int | None:
    """Resident memory at its peak, or None where the system does not tell."""
    try:
        _, _, peak = (_PROCESS / "status").read_bytes().partition(b"VmHWM:")
    except OSError:
        return None
    return int(peak.split(maxsplit=1)[0]) * 1024 if peak else None
