"""A transfer that runs in its own thread while what has come is being read."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

from .errors import Cancelled, CorruptFile, TruncatedFile
from .object_store import transfer_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from .bandwidth import BandwidthMeter

__all__ = ["Arrival"]

_PIECE = 1 << 16


class Arrival(io.RawIOBase):
    """Reads ``stream`` ahead and gives its bytes in order, as a binary file that cannot seek.

    Args:
        stream: a forward stream; ``read(n)`` gives up to ``n`` bytes, none at the end.
        size_bytes: the size the stream must have, None where it is not known.
        sha256: the SHA-256 (hex) its bytes must have; it is checked before the end of the stream is reported.
        buffer_bytes: how much may wait to be read before the transfer pauses.
        meter: told of every wait for bytes.
        name: for error messages.

    ``received_bytes`` have come so far; ``waited_seconds`` were spent in reads that waited for bytes.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        size_bytes: int | None = None,
        sha256: str | None = None,
        buffer_bytes: int = 128 << 20,
        meter: BandwidthMeter | None = None,
        name: str = "the stream",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._size = size_bytes
        self._sha256 = sha256
        self._room = buffer_bytes
        self._meter = meter
        self._clock = clock
        self.name = name
        self.received_bytes = 0
        self.waited_seconds = 0.0
        self._pieces: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._finished = False
        self._abandoned = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._transfer, name="codeckit-transfer", daemon=True)
        self._thread.start()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes as soon as some are there; none at the end. A negative ``count`` reads everything.

        Raises what the transfer raised, after the bytes that came before it, and :class:`Cancelled` once abandoned.
        """
        if count < 0:
            return b"".join(iter(lambda: self.read(_PIECE), b""))
        with self._changed:
            began = self._clock()
            self._changed.wait_for(lambda: self._pieces or self._finished or self._abandoned)
            self.waited_seconds += self._clock() - began
            if self._abandoned:
                raise Cancelled(f"the transfer of {self.name} was abandoned")
            if not self._pieces:
                if self._failure is not None:
                    raise self._failure
                return b""
            piece = self._pieces.popleft()
            if len(piece) > count:
                self._pieces.appendleft(piece[count:])
                piece = piece[:count]
            self._waiting_bytes -= len(piece)
            self._changed.notify_all()
        return bytes(piece)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until every byte has come, or the transfer failed, for at most so long; whether it is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._finished or self._abandoned, timeout_seconds)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes have come and have not been read."""
        return self._waiting_bytes

    @property
    def abandoned(self) -> bool:
        return self._abandoned

    def abandon(self) -> bool:
        """Stop the transfer; whoever reads gets :class:`Cancelled`. False, and nothing stops, when it is over."""
        with self._changed:
            if self._finished:
                return False
            self._abandoned = True
            self._pieces.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()
        if self._meter is not None:
            self._meter.cancel()
        self._stream.close()  # wakes a read that waits for bytes
        return True

    def close(self) -> None:
        """Stop the transfer if it is under way, and wait for its thread."""
        if not self.closed:
            self.abandon()
            self._thread.join(timeout=5)
        super().close()

    def _transfer(self) -> None:
        try:
            with transfer_errors(self.name):
                self._receive()
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()
            self._stream.close()

    def _receive(self) -> None:
        digest = hashlib.sha256()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting_bytes < self._room or self._abandoned)
                if self._abandoned:
                    return
            piece = self._read_piece()
            if not piece:
                break
            self.received_bytes += len(piece)
            if self._size is not None and self.received_bytes > self._size:
                raise CorruptFile(f"{self.name} is longer than the {self._size:,} bytes it should have")
            digest.update(piece)
            with self._changed:
                self._pieces.append(memoryview(piece))
                self._waiting_bytes += len(piece)
                self._changed.notify_all()
        if self._size is not None and self.received_bytes != self._size:
            raise TruncatedFile(f"{self.name} ended after {self.received_bytes:,} of {self._size:,} bytes")
        if self._sha256 is not None and digest.hexdigest() != self._sha256:
            raise CorruptFile(f"{self.name} is not the object it should be: its SHA-256 disagrees")

    def _read_piece(self) -> bytes:
        if self._meter is None:
            return self._stream.read(_PIECE)
        self._meter.begin(self._clock())
        piece = self._stream.read(_PIECE)
        if not self._abandoned:
            self._meter.end(self._clock(), len(piece))
        return piece
