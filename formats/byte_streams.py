"""Bytes in and out: the ``bytes`` kind, for text and anything else that is a sequence of bytes."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .atomic_file import AtomicFile, output_errors
from .errors import CorruptFile, InvalidParameter, OutputFailure, UnsupportedInput

if TYPE_CHECKING:
    from .checksums import Buffer
    from .limits import Limits

__all__ = [
    "ByteSink",
    "ByteSource",
    "ComparingByteSink",
    "FileByteSink",
    "MemoryByteSink",
    "StreamByteSink",
    "comparing_sink",
    "memory_sink",
    "open_sink",
    "open_source",
]


class ByteSource:
    """A forward stream of bytes; ``size_bytes`` counts what has been read so far and is final at the end."""

    def __init__(self, stream: BinaryIO, *, owned: bool, name: str) -> None:
        self._stream = stream
        self._owned = owned
        self.name = name
        self.size_bytes = 0

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes, fewer only at the end of the input."""
        pieces = []
        missing = count
        while missing > 0:
            piece = self._stream.read(missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self.size_bytes += count - missing
        return b"".join(pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owned:
            self._stream.close()


class ByteSink(ABC):
    """Where decoded bytes go; nothing appears under the final name before :meth:`commit`."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: Buffer) -> int:
        """Append ``data``."""
        count = self._write(data)
        self.size_bytes += count
        return count

    @abstractmethod
    def commit(self) -> None:
        """Make the output final."""

    @abstractmethod
    def _write(self, data: Buffer) -> int:
        """Write ``data`` and return its size in bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class FileByteSink(ByteSink):
    """A file that appears atomically."""

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        super().__init__()
        self._file = AtomicFile(path, overwrite=overwrite)

    def commit(self) -> None:
        self._file.commit()

    def _write(self, data: Buffer) -> int:
        return self._file.write(data)

    def __exit__(self, *details: object) -> None:
        self._file.__exit__(*details)


class StreamByteSink(ByteSink):
    """An open binary stream, such as standard output; bytes leave as they come."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def commit(self) -> None:
        with output_errors("output stream"):
            self._stream.flush()

    def _write(self, data: Buffer) -> int:
        with output_errors("output stream"):
            self._stream.write(data)
        return memoryview(data).nbytes


class MemoryByteSink(ByteSink):
    """Collects the bytes in memory, up to ``limits.max_memory_bytes``; ``value`` after commit."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._buffer = io.BytesIO()
        self._limits = limits

    def commit(self) -> None:
        self._buffer.seek(0, io.SEEK_END)

    @property
    def value(self) -> bytes:
        return self._buffer.getvalue()

    def _write(self, data: Buffer) -> int:
        total = self.size_bytes + memoryview(data).nbytes
        self._limits.check("max_memory_bytes", total, "the decoded content")
        return self._buffer.write(data)


class ComparingByteSink(ByteSink):
    """Checks decoded bytes against the input they were encoded from; :meth:`commit` means they are equal."""

    def __init__(self, original: ByteSource) -> None:
        super().__init__()
        self._original = original

    def commit(self) -> None:
        if self._original.read(1):
            raise CorruptFile(f"verification failed: the input goes on after byte {self.size_bytes:,}")

    def _write(self, data: Buffer) -> int:
        count = memoryview(data).nbytes
        if self._original.read(count) != bytes(data):
            raise CorruptFile(f"verification failed: bytes after {self.size_bytes:,} differ from the input")
        return count

    def __exit__(self, *details: object) -> None:
        self._original.__exit__(*details)


def open_source(value: Any, *, limits: Limits) -> ByteSource:
    """Open a path, a bytes-like object or a binary file object."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ByteSource(io.BytesIO(value), owned=True, name="bytes")
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        if path.is_dir():
            raise UnsupportedInput(f"{path} is a directory; give files, or use --output-dir")
        try:
            return ByteSource(path.open("rb"), owned=True, name=str(path))
        except OSError as error:
            raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    if hasattr(value, "read"):
        return ByteSource(value, owned=False, name=str(getattr(value, "name", "stream")))
    raise UnsupportedInput(f"expected a path, bytes or a binary file object, got {type(value).__name__}")


def open_sink(target: Any, *, overwrite: bool, limits: Limits) -> ByteSink:
    """A sink for a path or a writable binary stream."""
    if isinstance(target, (str, os.PathLike)):
        return FileByteSink(target, overwrite=overwrite)
    if hasattr(target, "write"):
        return StreamByteSink(target)
    raise OutputFailure(f"cannot write to a {type(target).__name__}; give a path or a binary file object")


def memory_sink(*, limits: Limits) -> MemoryByteSink:
    """A sink whose ``value`` is the decoded ``bytes``."""
    return MemoryByteSink(limits)


def comparing_sink(value: Any, *, limits: Limits) -> ComparingByteSink:
    """A sink that compares what is decoded with ``value``, which must be readable a second time."""
    if hasattr(value, "read"):
        raise InvalidParameter("a stream cannot be read twice to verify against; give a path or bytes")
    return ComparingByteSink(open_source(value, limits=limits))
