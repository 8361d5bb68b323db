"""Limits that are checked before anything is allocated or computed."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LimitExceeded

__all__ = ["DEFAULT_LIMITS", "Limits"]

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a file or an input may ask for; raise a field to open larger trusted files.

    All sizes are in bytes. ``max_dimension`` bounds the width and the height of one picture in pixels,
    ``max_pixels`` their product, and ``max_output_bytes`` the total size a decode may promise.
    """

    max_header_bytes: int = 1 * MIB
    max_chunk_bytes: int = 1 * GIB
    max_chunks: int = 1 << 20
    max_dimension: int = 1 << 16
    max_pixels: int = 1 << 30
    max_frames: int = 1 << 24
    max_output_bytes: int = 1 << 42
    max_memory_bytes: int = 16 * GIB

    def check(self, name: str, value: int, what: str) -> None:
        """Raise :class:`LimitExceeded` when ``value`` is above the limit called ``name``."""
        limit: int = getattr(self, name)
        if value > limit:
            raise LimitExceeded(
                f"{what} asks for {value:,}, above the limit {name}={limit:,}; "
                f"pass Limits({name}=...) if you trust this input"
            )


DEFAULT_LIMITS = Limits()
