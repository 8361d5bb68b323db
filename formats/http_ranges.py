"""A file behind HTTP, read by range requests whose answers are bounded."""

from __future__ import annotations

import io
from typing import Any

from .errors import CorruptFile, ExternalFailure
from .object_store import transfer_errors

__all__ = ["HTTPRanges"]

_PARTIAL_CONTENT = 206


class HTTPRanges(io.RawIOBase):
    """Every read is one range request; an answer longer than what was asked for is refused, not stored.

    ``files`` is fsspec's HTTP file system.
    """

    def __init__(self, files: Any, url: str) -> None:
        self._files = files
        self._url = url
        self._position = 0
        size = files.info(url).get("size")
        if not isinstance(size, int):
            raise ExternalFailure(f"the server does not tell the size of {url}; stream the whole file instead")
        self._size = size
        self.requests = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._size - self._position)
        if count <= 0:
            return 0
        data = self._fetch(self._position, count)
        view[:count] = data
        self._position += count
        return count

    def _fetch(self, start: int, count: int) -> bytes:
        self.requests += 1
        headers = {"Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"}
        with (
            transfer_errors(self._url),
            # block size 0 is fsspec's forward stream of one response
            self._files.open(self._url, "rb", block_size=0, size=self._size, headers=headers) as stream,
        ):
            if stream.r.status != _PARTIAL_CONTENT and (start, count) != (0, self._size):
                raise ExternalFailure(f"the server of {self._url} gives no byte ranges; stream the whole file instead")
            pieces = []
            missing = count
            while missing > 0:
                piece = stream.read(missing)
                if not piece:
                    raise ExternalFailure(f"{self._url}: the answer ended {missing:,} bytes early")
                pieces.append(piece)
                missing -= len(piece)
            if stream.read(1):
                raise CorruptFile(f"{self._url}: the answer is longer than the range of {count:,} bytes asked for")
        return b"".join(pieces)
