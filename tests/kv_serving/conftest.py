"""Real senders for the tests of serving: an HTTP server with ranges and a throttle, and a Redis server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from codeckit import kv

PIECE_SECONDS = 0.01


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


class Server(ThreadingHTTPServer):
    """Serves a folder over a real socket; ``ranges`` and ``sent_bytes`` tell what was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.throttle = Throttle()
        self.with_ranges = True
        self.ranges: list[str] = []
        self.sent_bytes = 0
        self.cut_after: int | None = None
        self.pause_after: tuple[int, threading.Event] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Readers that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

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
            size = len(data) if rate is None else max(1, int(rate * PIECE_SECONDS))
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An HTTP server of ``tmp_path / 'served'`` on the loopback interface."""
    folder = tmp_path / "served"
    folder.mkdir()
    running = Server(folder)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis server of its own, on a free port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            else:
                pytest.fail("redis-server did not begin to listen within 4 s")
            yield f"redis://127.0.0.1:{port}/0/contexts"
        finally:
            process.terminate()


@pytest.fixture
def small_cache() -> kv.Cache:
    """6 layers, 2 heads, 160 tokens, 16 channels in fp16: smooth along tokens, as keys and values are."""
    random = np.random.default_rng(5)
    steps = random.normal(size=(2, 6, 2, 160, 16)) * 0.3
    arrays = (np.cumsum(steps, axis=3) * 0.3 + random.normal(size=(2, 6, 2, 1, 16))).astype(np.float16)
    return kv.from_arrays(arrays[0], arrays[1], rotary=kv.Rotary.from_theta(10_000, 16), model="test")
