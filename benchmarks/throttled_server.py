"""An HTTP server of one folder whose speed can be set: slow links, falls of bandwidth, cut and stalled connections."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

__all__ = ["Throttle", "ThrottledServer"]

_PIECE_SECONDS = 0.01


class Throttle:
    """Bytes per second as a function of the seconds since :meth:`start`; steps are (from second, rate)."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self._began = 0.0

    def start(self, *steps: tuple[float, float]) -> None:
        self.steps = sorted(steps)
        self._began = time.monotonic()

    def rate(self) -> float | None:
        elapsed = time.monotonic() - self._began
        current = None
        for since, rate in self.steps:
            if elapsed >= since:
                current = rate
        return current


class ThrottledServer(ThreadingHTTPServer):
    """Serves ``folder`` on a free port of the loopback interface; a context manager that runs it in a thread.

    ``throttle`` sets the speed of every answer, ``with_ranges`` whether byte ranges are given, ``cut_after`` after how
    many bytes an answer is cut, ``pause_after`` after how many it waits for an event. ``ranges`` and ``sent_bytes``
    tell what was asked for.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.throttle = Throttle()
        self.with_ranges = True
        self.ranges: list[str] = []
        self.sent_bytes = 0
        self.cut_after: int | None = None
        self.pause_after: tuple[int, threading.Event] | None = None

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Readers may hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ThrottledServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, *, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted and self.server.with_ranges:
            self.server.ranges.append(wanted)
            first, last = wanted.removeprefix("bytes=").split("-")
            stop = min(int(last) + 1, len(data))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{len(data)}")
            data = data[int(first) : stop]
        else:
            self.send_response(200)
        if self.server.with_ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self._send(data)

    def _send(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            rate = self.server.throttle.rate()
            size = len(data) if rate is None else max(1, int(rate * _PIECE_SECONDS))
            if self.server.cut_after is not None:
                size = min(size, self.server.cut_after - position)
                if size <= 0:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
            if self.server.pause_after is not None:
                limit, event = self.server.pause_after
                if position >= limit:
                    event.wait(30)
                else:
                    size = min(size, limit - position)
            piece = data[position : position + size]
            started = time.monotonic()
            self.wfile.write(piece)
            self.wfile.flush()
            position += len(piece)
            self.server.sent_bytes += len(piece)
            if rate is not None:
                time.sleep(max(len(piece) / rate - (time.monotonic() - started), 0))
