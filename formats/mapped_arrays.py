"""Arrays that lie in ``.npy`` files: large pictures pass through memory a part at a time."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mapped_npy", "release_pages"]


def mapped_npy(stream: BinaryIO, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Zeros of ``shape``, uint8, that are the content of ``stream``, an empty file open for reading and writing."""
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(stream, header)
    stream.flush()
    start = stream.tell()
    size = int(np.prod(shape, dtype=np.int64))
    stream.truncate(start + size)
    mapping = mmap.mmap(stream.fileno(), start + size)
    return np.frombuffer(mapping, np.uint8, size, start).reshape(shape)


def release_pages(array: NDArray[Any]) -> None:
    """Let go of the memory behind an array in a file; what was written stays, and is read again when needed.

    Does nothing for arrays that lie in no file.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
