"""The checksums of the container: XXH3-64 against accidents, SHA-256 to identify content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Buffer", "ContentHash", "checksum32", "checksum64", "slices"]

Buffer = bytes | bytearray | memoryview

_SLICE_BYTES = 1 << 20


def checksum64(data: Buffer) -> int:
    """XXH3-64 of ``data`` with seed 0, as an unsigned integer."""
    return int(xxh3_64_intdigest(data))


def checksum32(data: Buffer) -> int:
    """The low 32 bits of XXH3-64 of ``data``."""
    return checksum64(data) & 0xFFFF_FFFF


class ContentHash:
    """A running SHA-256 over everything written or read so far."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, data: Buffer) -> None:
        self._sha256.update(data)

    def digest(self) -> bytes:
        """The 32-byte digest of what was seen so far; more may follow."""
        return self._sha256.digest()


def slices(data: Buffer) -> Iterator[memoryview]:
    """Yield ``data`` in views of at most 1 MiB."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), _SLICE_BYTES):
        yield view[start : start + _SLICE_BYTES]
